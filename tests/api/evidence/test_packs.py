"""An evidence pack of a believable change: all that a regulator asks, and nothing from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from believable_home import PSEUDONYM, Stage
from PIL import ImageFile
from sqlalchemy import text
from tampering import unguarded

from api.assembly import Driftward
from api.evidence.gathering import gather
from api.evidence.issuing import issue
from api.evidence.rendering import as_html
from registry import ledger, recalls
from registry.canonical import sha256
from registry.errors import BadInputError, NotFoundError
from registry.identities import Identity, Role
from registry.versions import find
from retrain import approvals

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome

OLA = Identity(name="Ola", roles=frozenset(Role))
REPAIR = 2


@pytest.fixture
def opened(copied_home: CopyHome) -> Iterator[Callable[[Stage], Driftward]]:
    """Opens a copy of a stage's home, which a test may change."""
    copies: list[Driftward] = []

    def open_copy(stage: Stage) -> Driftward:
        copies.append(Driftward.open(copied_home(stage)))
        return copies[-1]

    yield open_copy
    for driftward in copies:
        driftward.database.dispose()


def html_of(driftward: Driftward, run: int = REPAIR) -> str:
    with driftward.database.reading() as session:
        return as_html(gather(session, run, at=driftward.clock.now()))


def test_a_pack_tells_what_changed_why_on_what_evidence_and_who_signed(
    opened: Callable[[Stage], Driftward],
) -> None:
    driftward = opened(Stage.HEALED)
    text = re.sub(r"\s+", " ", html_of(driftward))
    assert "pneumonia-cxr@2 was made from pneumonia-cxr@1 by full fine-tuning" in text
    assert "Cause: acquisition. Impact: measured." in text
    assert "The ledger verified when this was written" in text
    with driftward.database.reading() as session:
        evidence = gather(session, REPAIR, at=driftward.clock.now())
        [signature] = approvals.signatures(session, REPAIR)
        assert all(gate.sentence in html.unescape(text) for gate in evidence.gates)
        assert signature.seen in text
        assert evidence.plan.digest in text
        assert all(row.digest in text for _, row in evidence.datasets)
        sequences = [entry.sequence for entry in evidence.entries]
    assert sequences == sorted(set(sequences))
    assert text.count("<svg") == 3


def test_a_pack_refers_to_nothing_outside_and_names_no_patient(
    opened: Callable[[Stage], Driftward],
) -> None:
    text = html_of(opened(Stage.HEALED))
    assert not re.search(r"(src|href)=|url\(|<script|@import", text)
    assert PSEUDONYM not in text


@pytest.mark.slow
def test_its_files_are_written_whole_and_their_digests_enter_the_ledger(
    opened: Callable[[Stage], Driftward], tmp_path: Path
) -> None:
    driftward = opened(Stage.HEALED)
    issued = issue(
        driftward.database,
        REPAIR,
        tmp_path / "pack",
        pdf=True,
        by=OLA,
        at=driftward.clock.now(),
    )
    page, pdf = issued.files
    assert {path.name for path in (tmp_path / "pack").iterdir()} == {page.name, pdf.name}
    assert pdf.read_bytes().startswith(b"%PDF-")
    # WeasyPrint's import would have every damaged image in this process read as whole.
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert {path: sha256(path.read_bytes()) for path in issued.files} == issued.files
    with driftward.database.reading() as session:
        [entry] = ledger.entries(session, kind="evidence.issued")
        assert entry.facts == {path.name: digest for path, digest in issued.files.items()}
        assert entry.actor == "Ola"
        assert ledger.verify(session).valid


def test_a_run_that_is_not_done_says_so(opened: Callable[[Stage], Driftward]) -> None:
    text = html_of(opened(Stage.TRAINING))
    assert "has made no candidate" in text
    assert "No gate has judged a candidate of this run." in text
    assert "Nobody has signed." in text


def test_a_recall_and_an_edited_record_stand_on_the_first_page(
    opened: Callable[[Stage], Driftward],
) -> None:
    driftward = opened(Stage.HEALED)
    with driftward.database.transaction() as session:
        version = find(session, "general-imagenet@1")
        recalls.recall(session, version, reason="poisoned", by=OLA, at=driftward.clock.now())
    with unguarded(driftward.database) as session:
        [signature] = approvals.signatures(session, REPAIR)
        signature.reason = "another one"
    text = html_of(driftward)
    assert "derived from general-imagenet@1, recalled on" in text
    assert "The ledger does not verify" in text


def test_a_trigger_that_is_missing_stands_on_the_first_page(
    opened: Callable[[Stage], Driftward],
) -> None:
    driftward = opened(Stage.HEALED)
    with driftward.database.transaction() as session:
        place = " ON approvals" if session.get_bind().dialect.name == "postgresql" else ""
        session.execute(text(f"DROP TRIGGER approvals_refuses_update{place}"))
    said = re.sub(r"\s+", " ", html_of(driftward))
    assert "The ledger does not verify: the entries hold, but triggers that guard them" in said
    assert "approvals_refuses_update" in said


def test_no_such_run_and_a_folder_that_cannot_be_written_to(
    opened: Callable[[Stage], Driftward], tmp_path: Path
) -> None:
    driftward = opened(Stage.CALM)
    (tmp_path / "file").write_text("in the way")
    for run, folder, error in (
        (99, tmp_path / "pack", NotFoundError),
        (1, tmp_path / "file" / "pack", BadInputError),
    ):
        with pytest.raises(error):
            issue(
                driftward.database,
                run,
                folder,
                pdf=False,
                by=OLA,
                at=driftward.clock.now(),
            )
    with driftward.database.reading() as session:
        assert not ledger.entries(session, kind="evidence.issued")
