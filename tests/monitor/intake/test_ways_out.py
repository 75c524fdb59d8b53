from __future__ import annotations

import pytest

from monitor.intake.reasons import Reason
from monitor.intake.ways_out import WAYS_OUT


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_meaning_and_a_next_step(reason: Reason) -> None:
    way_out = WAYS_OUT[reason]
    for sentence in (way_out.meaning, way_out.action):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
