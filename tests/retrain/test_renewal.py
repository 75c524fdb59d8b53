from __future__ import annotations

import pytest
from retraining_rows import ANCHOR, Retraining

from monitor.monitors import require_monitor
from retrain import runs
from retrain.renewal import accepted_scans


def accepted(retraining: Retraining, subgroup: str | None) -> dict[str, int]:
    """Return how many scans of each site become usual after a promotion for a subgroup."""
    history = retraining.history
    history.accept_reference(320, shifts={"north": 0.0, "south": 0.0})
    history.add(40, at=ANCHOR, software_version="2.0", site="north")
    episode = retraining.open_episode(subgroup=subgroup)
    run = retraining.run_awaiting_approval(episode=episode)
    with retraining.database.reading() as session:
        scans = accepted_scans(
            session, require_monitor(session, "chest"), runs.require_run(session, run)
        )
        assert len(scans) == len({scan.id for scan in scans})
        return {
            f"{site} {version}": sum(
                (scan.site, scan.software_version) == (site, version) for scan in scans
            )
            for site in ("north", "south")
            for version in ("1.0", "2.0")
        }


@pytest.mark.parametrize("subgroup", ["site=north & software_version=2.0", "site=north"])
def test_a_shift_at_one_place_leaves_the_reference_of_the_others(
    retraining: Retraining, subgroup: str
) -> None:
    assert accepted(retraining, subgroup) == {
        "north 1.0": 0,
        "north 2.0": 40,
        "south 1.0": 320,
        "south 2.0": 0,
    }


def test_after_a_shift_everywhere_only_what_came_since_is_usual(retraining: Retraining) -> None:
    assert accepted(retraining, None) == {
        "north 1.0": 0,
        "north 2.0": 40,
        "south 1.0": 0,
        "south 2.0": 0,
    }
