"""A candidate in shadow from its gates to its promotion, by the commands that people type."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from crashed_promotion import judge_a_candidate
from fastapi.testclient import TestClient
from small_installation import MODEL, SITE, SmallInstallation
from sqlalchemy import select

from api.assembly import Driftward
from api.http.app import create_app
from api.settings import Settings
from monitor.tables import ResultRow, ScanRow
from registry import ledger
from retrain.scheduling import tick

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]
SCANS = 24
_RULES = """
shadow_scans: 20
watch:
  days: 28
  error_rate: 0.05
  when_it_fails: suspend
"""


@dataclass
class Desk:
    """An installation at which time passes as the test says, and its command line."""

    made: SmallInstallation
    driftward: Run
    run: int

    def pass_time(self, **span: float) -> None:
        """Let time pass, have the scheduler look, and a worker do what is due."""
        self.made.clock.at += timedelta(**span)
        tick(self.made.driftward.database, self.made.clock)
        assert self.driftward("work", "--drain").code == 0
        assert not self.made.failed_jobs()

    def shown(self) -> Any:
        return self.driftward("run", "show", self.run, "--json").document

    def refused(self, *words: object) -> str:
        ended = self.driftward(*words)
        assert ended.code == 1, ended.stdout
        return " ".join(ended.stderr.split())

    def page(self) -> str:
        with TestClient(
            create_app(self.made.driftward, recognise=lambda _: True),
            base_url="http://127.0.0.1:8321",
        ) as client:
            text = client.get(f"/runs/{self.run}").text
            assert client.get(f"/api/v1/runs/{self.run}").status_code == 200
        return " ".join(re.sub("<[^>]+>", " ", text).split())


@pytest.fixture
def desk(
    tmp_path: Path,
    founded_home: Settings,
    driftward: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    made = SmallInstallation(tmp_path, empty_mlflow=founded_home.home / "mlflow" / "mlflow.db")
    run = judge_a_candidate(made, tmp_path, staged=True, rules=_RULES)
    opened = Driftward.open
    monkeypatch.setattr(Driftward, "open", lambda settings: opened(settings, clock=made.clock))
    monkeypatch.setenv("DRIFTWARD_HOME", str(made.driftward.settings.home))
    monkeypatch.setenv("DRIFTWARD_THREADS", "1")
    return Desk(made=made, driftward=driftward, run=run)


def test_a_candidate_reads_beside_the_champion_and_is_signed_afterwards(
    desk: Desk, tmp_path: Path
) -> None:
    run, driftward = desk.run, desk.driftward
    shown = desk.shown()
    assert (shown["state"], shown["shadow"]) == ("shadow", None)
    assert shown["shadow_waits_for"][0].startswith("7 days of shadow end ")
    waits = "is in shadow, and signed when that is over: 7 days of shadow end"
    assert waits in desk.refused("approve", run, "--reason", "looks well")
    assert "lacks 1 approval" in desk.refused("promote", f"{MODEL}@2")

    # Scans arrive, and both read them; nobody is told what the candidate said.
    desk.pass_time(days=2)
    folder = desk.made.written(SCANS)
    added = driftward("scan", "add", folder, "--site", SITE)
    assert added.code == 0, added.stderr
    desk.made.label(since=desk.made.clock.at)  # by readers who saw no result
    desk.pass_time(minutes=5)
    with desk.made.driftward.database.reading() as session:
        newest = session.scalars(select(ScanRow.id).order_by(ScanRow.id.desc()).limit(SCANS))
        kept = session.execute(
            select(ResultRow.scan, ResultRow.version, ResultRow.delivery).where(
                ResultRow.scan.in_(list(newest))
            )
        ).all()
    assert len(kept) == 2 * SCANS
    assert len({(scan, version) for scan, version, _ in kept}) == 2 * SCANS
    assert sorted({(version, delivery) for _, version, delivery in kept}) == [
        (2, "delivered"),
        (3, "background"),
    ]
    shadow = desk.shown()["shadow"]
    assert (shadow["by_champion"], shadow["by_both"], shadow["labelled"]) == (SCANS,) * 3
    assert shadow["disagreement"]["different"]["scans"] == SCANS
    said = driftward("run", "show", run).stdout
    assert f"both read {SCANS} of the champion's {SCANS} scans" in said
    assert "called otherwise" in said
    assert "Called otherwise by the candidate" in desk.page()
    assert "Still: 7 days of shadow end" in desk.page()

    # The period is not over, whatever was read.
    desk.pass_time(days=4, hours=23)
    assert waits in desk.refused("approve", run, "--reason", "looks well")
    desk.pass_time(hours=1)
    shown = desk.shown()
    assert (shown["state"], shown["shadow_waits_for"]) == ("awaiting approval", [])
    assert shown["note"].startswith("7 days of shadow are over: both read 24")
    stale = desk.refused("approve", run, "--reason", "read", "--seen", "0" * 64)
    assert "no longer what you saw" in stale
    signed = driftward("approve", run, "--reason", "shadow read", "--seen", shown["seen"])
    assert signed.code == 0, signed.stderr

    # It goes to its first stage, where a runtime says that it runs it.
    declare = driftward("deployment", "declare", MODEL, "--site", SITE)
    assert declare.code == 0, declare.stderr
    assert driftward("promote", f"{MODEL}@2").code == 0
    [digest] = [
        one["digest"]
        for one in driftward("deployment", "list", MODEL, "--json").document
        if one["deployment"] == SITE
    ]
    attested = driftward(
        *("deployment", "attest", MODEL, "--site", SITE, "--digest", digest, "--json")
    )
    assert attested.document["runtime"]["state"] == "attested"

    out = tmp_path / "pack"
    issued = driftward("evidence", run, "--out", out)
    assert issued.code == 0, issued.stderr
    assert (out / f"evidence-run-{run}.pdf").read_bytes().startswith(b"%PDF-")
    pack = " ".join((out / f"evidence-run-{run}.html").read_text().split())
    for part in (
        "In shadow",
        f"Both read {SCANS} of the champion's {SCANS} scans",
        "the plan asks for 7 days and 20 scans",
        "Called otherwise by the candidate",
        "Sensitivity of the candidate",
        "What was refused",
        "Stages",
        "What clinical runtimes attested",
        digest,
        "The first weeks in use",
    ):
        assert part in pack, part
    with desk.made.driftward.database.reading() as session:
        assert ledger.verify(session).valid
        why = [entry.facts["why"] for entry in ledger.entries(session, kind="approval.refused")]
    assert why == ["state", "state", "changed"]
