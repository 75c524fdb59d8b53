from __future__ import annotations

from dataclasses import replace

import pytest

from retrain.workspace import Progress

#: In the third of ten epochs, of the first of two attempts.
IN_THE_MIDDLE = Progress(
    epoch=2, epochs=10, step=5, steps=10, loss=0.4, selection_auc=None, attempts=2
)
AT_AN_END = replace(IN_THE_MIDDLE, epoch=3, step=10, selection_auc=0.9)


@pytest.mark.parametrize(
    ("progress", "epoch", "share"),
    [
        (IN_THE_MIDDLE, 3, 0.125),
        (AT_AN_END, 4, 0.15),
        (replace(AT_AN_END, epoch=10), 10, 0.5),
        (replace(IN_THE_MIDDLE, attempt=1), 3, 0.625),
        (replace(AT_AN_END, epoch=10, attempt=1), 10, 1.0),
    ],
)
def test_progress_says_which_epoch_it_is_in_and_how_much_of_the_run_is_done(
    progress: Progress, epoch: int, share: float
) -> None:
    assert progress.current_epoch == epoch
    assert progress.share == pytest.approx(share)
