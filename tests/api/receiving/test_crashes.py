"""`kill -9` at each point that a received instance passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash_scenario import FILES_EACH, RECEIVE_POINTS, SENDERS, crash_while_sending


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("point", RECEIVE_POINTS)
def test_every_acknowledged_instance_is_there_exactly_once(
    home: Path, tmp_path: Path, point: str, after: int
) -> None:
    crash = crash_while_sending(home, tmp_path / "sent", point=point, after=after)
    # Else the point was not reached, and nothing was tested.
    assert crash.acknowledged < SENDERS * FILES_EACH
    assert crash.acknowledged_and_lost == 0
    assert crash.stored_after_resend == SENDERS * FILES_EACH
    assert crash.whole
