"""`driftward plan backtest` on a small history: table, JSON and picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shifted_history import ShiftedHistory

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

SPAN = ("--since", "2026-04-06", "--until", "2026-04-27")


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> ShiftedHistory:
    made = ShiftedHistory(
        tmp_path_factory.mktemp("backtest") / "home", scans_a_week=120, dimension=16
    )
    made.make()
    made.driftward.database.dispose()
    (made.home.parent / "plan.yaml").write_text(made.plan_text())
    return made


@pytest.mark.slow
def test_a_plan_that_is_not_in_force_is_replayed_shown_and_drawn(
    driftward: Run, shifted: ShiftedHistory, tmp_path: Path
) -> None:
    plan = shifted.home.parent / "plan.yaml"
    words = ("plan", "backtest", "chest", *SPAN, "--plan", plan, "--home", shifted.home)
    picture = tmp_path / "picture.svg"
    as_json = driftward(*words, "--json", "--plot", picture)
    assert as_json.code == 0, as_json.stderr
    document = as_json.document
    assert document["plan"]["source"] == "plan.yaml"
    assert document["episodes"][0]["subgroup"] == "software_version=2.0"
    assert [one["policy"] for one in document["policies"]][1:] == [
        "never",
        "periodic",
        "performance-triggered",
    ]
    drawn = picture.read_text()
    assert drawn.startswith("<?xml")
    assert "http" not in drawn.partition("<metadata>")[0].replace("http://www.w3.org", "")
    again = driftward(*words, "--plot", tmp_path / "again.svg")
    assert again.code == 0
    assert (tmp_path / "again.svg").read_text() == drawn
    assert "software_version=2.0" in again.stdout
    assert "performance-triggered" in again.stdout


def test_what_cannot_be_replayed_is_refused_with_the_way_out(
    driftward: Run, shifted: ShiftedHistory, tmp_path: Path
) -> None:
    words = ("plan", "backtest", "chest", "--home", shifted.home)
    without = driftward(*words, *SPAN, "--plan", tmp_path / "no.yaml")
    assert (without.code, "no.yaml cannot be read" in without.stderr) == (1, True)
    odd = driftward(*words, *SPAN, "--plot", tmp_path / "picture.pdf")
    assert (odd.code, "neither .svg nor .png" in odd.stderr) == (1, True)
    lost = driftward(*words, *SPAN, "--plot", tmp_path / "no" / "picture.svg")
    assert (lost.code, "there is no folder" in lost.stderr) == (1, True)
    backwards = driftward(*words, "--since", "2026-05-01", "--until", "2026-04-01")
    assert (backwards.code, "is not before until" in backwards.stderr) == (1, True)
