"""Labels from all roads together: corrections, contradictions, disputes, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from label_reports import MAPPING, as_json, csv_of, diagnostic_report, image, structured_report
from labelled_home import ARRIVED, NOW, SITE, LabelledHome
from sqlalchemy import select, text
from statsmodels.stats.inter_rater import cohens_kappa

from monitor.labelling.listing import agreements, disputed_scans
from monitor.labelling.mapping import parse_mapping
from monitor.labelling.provenance import Provenance
from monitor.labels import latest
from monitor.tables import LabelRow
from registry import ledger
from registry.canonical import digest_of, to_json
from registry.database import Database, _alembic_config
from registry.errors import LabelError, NotPermittedError
from registry.identities import Identity


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LabelledHome:
    images = [image(1, study=study) for study in range(1, 9)]
    return LabelledHome.founded(tmp_path_factory.mktemp("labelled"), images)


@pytest.fixture
def home(founded: LabelledHome, tmp_path: Path) -> Iterator[LabelledHome]:
    made = founded.copied(tmp_path)
    yield made
    made.driftward.database.dispose()


def truth(home: LabelledHome, scan: int) -> int | None:
    with home.driftward.database.reading() as session:
        found = latest(session, [scan]).get((scan, "pneumonia"))
    return None if found is None else found.value


def test_a_correction_is_signed_later_and_every_label_stays(home: LabelledHome) -> None:
    home.say(0, 1, hours=1)
    home.say(0, 0, hours=2)
    assert [row.value for row in home.labels()] == [1, 0]
    assert truth(home, 1) == 0
    # The first one again is known; it brings nothing back.
    assert home.say(0, 1, hours=1).known == 1
    assert truth(home, 1) == 0


def test_what_contradicts_the_same_reader_at_the_same_time_is_refused(
    home: LabelledHome,
) -> None:
    home.say(0, 1)
    with pytest.raises(LabelError, match="a correction is signed later"):
        home.say(0, 0)
    home.say(0, 0, reader="r2")
    assert [row.value for row in home.labels()] == [1, 0]
    [refusal] = home.refusals()
    assert refusal.facts["problem"] == "contradiction"
    assert refusal.facts["place"] == "line 2"


def test_without_a_time_a_label_corrects_nothing(home: LabelledHome) -> None:
    home.say(0, 1, provenance="report")
    with pytest.raises(LabelError, match="a correction is signed later, and says when"):
        home.say(0, 0, provenance="report", hours=-1)


def test_a_file_that_contradicts_itself_is_refused_whole(home: LabelledHome) -> None:
    uids = [str(ds.SOPInstanceUID) for ds in home.images]
    rows = [(uids[1], "pneumonia", 1), (uids[0], "pneumonia", 1), (uids[0], "pneumonia", 0)]
    with pytest.raises(LabelError, match="file: line 4: the same reader"):
        home.give(csv_of(*[(*row, "reader", "r1", ARRIVED) for row in rows]))
    assert home.labels() == []


def test_disagreement_is_kept_and_has_no_truth_until_it_is_adjudicated(
    home: LabelledHome,
) -> None:
    home.say(0, 1)
    taken = home.say(0, 0, reader="r2")
    assert (taken.disputed, truth(home, 1)) == (1, None)
    with home.driftward.database.reading() as session:
        [found] = disputed_scans(session)
        assert disputed_scans(session, site="south") == []
    assert (found.scan, found.site, [row.reader for row in found.voices]) == (
        1,
        SITE,
        ["r1", "r2"],
    )
    settled = home.say(0, 1, reader="r3", hours=4, provenance="adjudicated")
    assert (settled.disputed, truth(home, 1)) == (0, 1)
    assert len(home.labels()) == 3


def test_agreement_of_readers_is_cohens_and_fleiss(home: LabelledHome) -> None:
    first, second = [1, 1, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 1, 1, 1, 0]
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        home.say(number, one)
        home.say(number, other, reader="r2")
    home.say(0, 0, reader="r3")
    # Corrected: what he says now counts.
    home.say(7, 1, reader="r2", hours=2)
    with home.driftward.database.reading() as session:
        [found] = agreements(session, task="pneumonia")
    pair = next(one for one in found.pairs if one.readers == ("r1", "r2"))
    assert (pair.scans, pair.agreed) == (8, 5)
    assert pair.kappa == pytest.approx(cohens_kappa([[2, 2], [1, 3]]).kappa, rel=1e-12)
    assert [(group.readers, group.scans, group.unanimous) for group in found.groups] == [
        (2, 7, 4),
        (3, 1, 0),
    ]


def test_a_label_of_the_future_is_refused(home: LabelledHome) -> None:
    with pytest.raises(LabelError, match="file: line 2: signed_at lies in the future"):
        home.say(0, 1, hours=(NOW - ARRIVED) / timedelta(hours=1) + 0.01)
    assert home.labels() == []


def test_a_site_that_sent_nothing_is_named_by_those_that_did(home: LabelledHome) -> None:
    uid = home.images[0].SOPInstanceUID
    with pytest.raises(LabelError, match="no scan of that site was taken in: there are north"):
        home.give(csv_of((uid, "pneumonia", 1, "reader", "r1", ARRIVED)), site="Qzxkanarie")
    [refusal] = home.refusals()
    assert (refusal.subject, refusal.facts["problem"]) == ("labels", "unknown_site")


def test_who_is_no_operator_brings_nothing_in(home: LabelledHome) -> None:
    nobody = Identity(name="nobody", roles=frozenset())
    with pytest.raises(NotPermittedError):
        home.driftward.label_intake.add(Path("x"), site=SITE, by=nobody)
    assert home.refusals() == []


def test_a_file_that_is_none_is_refused(home: LabelledHome, tmp_path: Path) -> None:
    intake = home.driftward.label_intake
    with pytest.raises(LabelError, match=r"absent\.csv cannot be read: No such file"):
        intake.add(tmp_path / "absent.csv", site=SITE, by=home.operator)
    with pytest.raises(LabelError, match="cannot be read"):
        intake.add(tmp_path, site=SITE, by=home.operator)
    with pytest.raises(LabelError, match="lacks the column"):
        home.give(b"")
    with pytest.raises(LabelError, match="leave --provenance out"):
        home.give(csv_of(), provenance=Provenance.PATHOLOGY)


def test_before_a_mapping_no_report_is_read(tmp_path: Path) -> None:
    home = LabelledHome.founded(tmp_path, [image(1)])
    with home.driftward.database.transaction() as session:
        session.execute(text("DELETE FROM label_mappings"))
    with pytest.raises(LabelError, match="nothing says what the codes of a report mean"):
        home.give(structured_report(home.images))
    home.driftward.database.dispose()


def test_each_import_keeps_the_mapping_that_it_was_read_by(home: LabelledHome) -> None:
    home.give(as_json(diagnostic_report(str(home.images[0].StudyInstanceUID))))
    changed = parse_mapping(
        MAPPING.replace("version: 1", "version: 2").replace("Berlin", "Paris"), source="m"
    )
    applied = home.driftward.label_intake.apply_mapping(changed, by=home.operator)
    home.give(structured_report(home.images[1:2]))
    with home.driftward.database.reading() as session:
        first, second = ledger.entries(session, kind="labels.attached")
    assert (first.facts["form"], second.facts["form"]) == ("fhir", "dicom")
    assert first.facts["mapping"] != second.facts["mapping"] == applied.digest
    assert second.facts["provenance"] == {"reader": 1}


def test_a_reader_is_the_same_under_a_new_key_of_pseudonyms(home: LabelledHome) -> None:
    home.give(structured_report(home.images[:1]))
    home.driftward.pseudonym_keys.rotate(
        reason="yearly", by=home.operator, clock=home.driftward.clock
    )
    home.give(structured_report(home.images[1:2]))
    first, second = home.labels()
    assert first.reader == second.reader
    assert second.scan == 2


def test_rows_from_before_influence_had_reasons_have_the_digest_that_they_had(
    home: LabelledHome,
) -> None:
    home.say(0, 1)
    [row] = home.labels()
    before = (
        *("id", "scan", "task", "value", "provenance", "reader", "signed_at"),
        *("ai_influenced", "arrived_at"),
    )
    digest = digest_of({name: to_json(getattr(row, name)) for name in before})
    assert ledger.row_digest(row) != digest
    row.influence_reason = None
    assert ledger.row_digest(row) == digest


def test_a_ledger_of_before_is_still_valid_after_the_upgrade(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'driftward.db'}")
    config = _alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0009")
    stored = {
        "id": 1,
        "scan": 1,
        "task": "t",
        "value": 1,
        "provenance": "reader",
        "reader": "r",
    }
    row = LabelRow(**stored, signed_at=ARRIVED, ai_influenced=False, arrived_at=NOW)
    with database.transaction() as session:
        names = (
            "id, site, patient, study, series, instance, vault_digest, pixel_digest, modality"
        )
        session.execute(
            text(
                f"INSERT INTO scans ({names}, arrived_at, batch) "
                "VALUES (1, 's', 'p', 's', 's', 'i', 'v', 'p', 'CR', :at, 1)"
            ),
            {"at": "2026-03-02 10:00:00.000000"},
        )
        session.execute(
            text(
                f"INSERT INTO labels ({', '.join(stored)}, signed_at, ai_influenced, arrived_at) "
                f"VALUES ({', '.join(f':{name}' for name in stored)}, :signed, 0, :arrived)"
            ),
            {
                **stored,
                "signed": "2026-03-02 10:00:00.000000",
                "arrived": "2026-03-04 10:00:00.000000",
            },
        )
        ledger.append(
            session,
            at=NOW,
            actor="test",
            kind="labels.attached",
            subject="s",
            facts={},
            seals=[row],
        )
    database.migrate()
    with database.reading() as session:
        assert session.scalars(select(LabelRow)).one().influence_reason is None
        assert ledger.verify(session, [LabelRow]).valid
    with database.transaction() as session:
        session.scalars(select(LabelRow)).one().influence_reason = "independent"
    with database.reading() as session:
        assert not ledger.verify(session, [LabelRow]).valid
    database.dispose()
