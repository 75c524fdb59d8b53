from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import pytest
from retraining_rows import ANCHOR, Retraining

from monitor.monitors import require_monitor
from retrain import runs
from retrain.renewal import accepted_scans


def accepted(
    retraining: Retraining,
    subgroup: str | None,
    before: Mapping[str, int] = MappingProxyType({"north": 320, "south": 320}),
) -> dict[str, int]:
    """Return how many scans of each site become usual after a promotion for a subgroup.

    `before` says how many of each were usual until then.
    """
    history = retraining.history
    for site, count in before.items():
        history.add(count, at=ANCHOR - timedelta(days=7), site=site)
    history.accept_reference(0, shifts={})
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
    # Half of the reference before it was of each site, and so is half of the new one.
    assert accepted(retraining, subgroup) == {
        "north 1.0": 0,
        "north 2.0": 40,
        "south 1.0": 40,
        "south 2.0": 0,
    }


def test_a_shift_of_more_scans_than_the_reference_had_keeps_its_mix_too(
    retraining: Retraining,
) -> None:
    assert accepted(retraining, "site=north", before={"north": 30, "south": 90}) == {
        "north 1.0": 0,
        "north 2.0": 30,
        "south 1.0": 90,
        "south 2.0": 0,
    }


def test_a_new_place_joins_the_others_in_the_share_that_it_sends(
    retraining: Retraining,
) -> None:
    retraining.history.add(10, at=ANCHOR, site="south")
    assert accepted(retraining, "site=north", before={"south": 320}) == {
        "north 1.0": 0,
        "north 2.0": 40,
        "south 1.0": 10,
        "south 2.0": 0,
    }


def test_after_a_shift_everywhere_only_what_came_since_is_usual(retraining: Retraining) -> None:
    assert accepted(retraining, None) == {
        "north 1.0": 0,
        "north 2.0": 40,
        "south 1.0": 0,
        "south 2.0": 0,
    }
