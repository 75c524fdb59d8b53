"""What a model of series reads, and what it says of one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from series_home import ANCHOR, SITE, Pair, SeriesHome, ct_series, ct_slice
from sqlalchemy import select, update
from tiny_bundles import TASK

from monitor import embeddings
from monitor.embedding.embedding import Embedder
from monitor.embedding.encoders import load_encoder
from monitor.embedding.pending_scans import count_pending
from monitor.embedding.scan_preparation import ScanImages
from monitor.evaluation import evaluate
from monitor.imaging.pixels import decode, prepare
from monitor.intake.vault import Vault
from monitor.labels import Label, Provenance, attach, latest
from monitor.monitors import require_monitor
from monitor.performance.falls import first_labels
from monitor.performance.performance import labelled_results
from monitor.reference_building import build_references
from monitor.references import ProfileStore
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry.bundles.bundle import Bundle
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Aggregate, Choose, Reading, Selection, SeriesChoice
from registry.errors import MonitorSpecError
from registry.identities import SYSTEM
from registry.versions import VersionRow

#: Stored embeddings are of half precision.
_HALF = {"rtol": 2e-3, "atol": 2e-3}


def instances_alone(bundle: Bundle, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings and probabilities of slices of patient 1, each by itself."""
    pixels = np.stack(
        [prepare(decode(ct_slice(1, number)), bundle.preprocessing) for number in numbers]
    )
    encoded = load_encoder(bundle, "cpu", threads=1).embed(pixels)
    return encoded.embeddings, encoded.probabilities[TASK]


def read(home: SeriesHome, version: VersionRow) -> tuple[list[np.ndarray], list[list[float]]]:
    """Return what a version stored of scans, in their order."""
    with home.database.reading() as session:
        vectors = session.scalars(
            select(EmbeddingRow.vector)
            .where(EmbeddingRow.version == version.id)
            .order_by(EmbeddingRow.scan)
        )
        results = session.scalars(
            select(ResultRow.probabilities)
            .where(ResultRow.version == version.id)
            .order_by(ResultRow.scan)
        )
        return [np.frombuffer(one, dtype="<f2").astype(np.float32) for one in vectors], list(
            results
        )


def refusals(home: SeriesHome) -> list[str]:
    with home.database.reading() as session:
        return sorted(session.scalars(select(RefusalRow.reason)))


@pytest.mark.parametrize(
    ("reading", "numbers"),
    [
        (Reading(at_most=3), [1, 5, 8]),
        (Reading(at_most=3, choose=Choose.MIDDLE), [3, 4, 5]),
        (Reading(at_most=10, choose=Choose.ALL), list(range(10))),
        (
            Reading(at_most=3, embedding=Aggregate.MAX, probabilities=Aggregate.MAX),
            [1, 5, 8],
        ),
    ],
)
def test_a_scan_is_what_its_chosen_instances_are_together(
    home: SeriesHome, bundles: Pair, reading: Reading, numbers: list[int]
) -> None:
    encoder, champion = bundles(Unit.SERIES, reading)
    _, version = home.watch("nodules", encoder=encoder, champion=champion)
    home.receive(reversed(ct_series(1, range(10))))
    home.wait(minutes=3)
    assert home.embedder.embed("nodules") == 1
    alone, said = instances_alone(champion, numbers)
    (vector,), (probabilities,) = read(home, version)
    if reading.embedding is Aggregate.MEAN:
        np.testing.assert_allclose(vector, alone.mean(axis=0), **_HALF)
        np.testing.assert_allclose(probabilities, said.mean(axis=0), rtol=1e-5)
    else:
        np.testing.assert_allclose(vector, alone.max(axis=0), **_HALF)
        np.testing.assert_allclose(probabilities, said[said[:, 1].argmax()], rtol=1e-5)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-6)


def test_a_model_of_instances_counts_instances_alone_and_its_numbers_do_not_change(
    home: SeriesHome, bundles: Pair
) -> None:
    encoder, champion = bundles(Unit.INSTANCE)
    _, version = home.watch("plain", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(6)))
    home.embedder.embed("plain")
    before = read(home, version)
    alone, _ = instances_alone(champion, list(range(6)))
    np.testing.assert_allclose(before[0], alone, **_HALF)
    series = bundles()
    home.watch("nodules", encoder=series[0], champion=series[1])
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert home.embedder.embed("plain") == 0
    after = read(home, version)
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]
    window = Window(start=ANCHOR, end=ANCHOR + timedelta(days=1))
    with home.database.reading() as session:
        counted = embeddings.in_window(session, version.id, window)
        assert {scan.unit for scan in counted.scans} == {"instance"}
        assert len(counted) == 6
        assert count_pending(session, require_monitor(session, "plain")) == 0


def test_a_superseded_revision_counts_in_no_window_and_its_results_stand(
    ct: SeriesHome,
) -> None:
    ct.receive(ct_series(1, range(5)))
    ct.wait(minutes=3)
    ct.embedder.embed("nodules")
    ct.receive(ct_series(1, range(5, 9)))
    ct.wait(minutes=3)
    ct.embedder.embed("nodules")
    assert ct.count(ResultRow) == 2
    window = Window(start=ANCHOR, end=ANCHOR + timedelta(days=1))
    with ct.database.reading() as session:
        version = session.scalars(select(EmbeddingRow.version)).first()
        assert version is not None
        (scan,) = embeddings.in_window(session, version, window).scans
    assert ct.made_of(scan).revision == 2
    assert ct.ledger_is_valid()


def test_a_series_of_too_few_instances_is_refused_by_name_and_joins_when_more_come(
    home: SeriesHome, bundles: Pair
) -> None:
    reading = Reading(at_most=3, select=Selection(modalities=("CT",), least_instances=4))
    encoder, champion = bundles(Unit.SERIES, reading)
    home.watch("nodules", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(3)))
    home.receive(ct_series(2, range(5), Modality="MR"))
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert refusals(home) == [
        "series of 3 instances: it reads those of 4 on",
        "series of modality MR: it reads series of CT",
    ]
    assert home.count(EmbeddingRow) == 0
    home.receive([ct_slice(1, 3)])
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert home.count(EmbeddingRow) == 2


def test_series_are_selected_by_words_of_their_protocol(
    home: SeriesHome, bundles: Pair
) -> None:
    reading = Reading(at_most=3, select=Selection(protocol_words=("chest",)))
    encoder, champion = bundles(Unit.SERIES, reading)
    home.watch("nodules", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(3)))
    home.receive(ct_series(2, range(3), ProtocolName="HEAD"))
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert refusals(home) == ["series of protocol HEAD: it reads those named chest"]
    assert home.count(ResultRow) == 1


def test_of_several_series_the_largest_is_read_once_their_study_has_settled(
    home: SeriesHome, bundles: Pair
) -> None:
    reading = Reading(at_most=3, select=Selection(series=SeriesChoice.LARGEST))
    encoder, champion = bundles(Unit.SERIES, reading)
    home.watch("nodules", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(4), series=1))
    home.wait(seconds=100)
    home.receive(ct_series(1, range(7), series=2))
    home.wait(seconds=100)
    assert home.embedder.embed("nodules") == 0
    home.wait(seconds=20)
    home.embedder.embed("nodules")
    assert refusals(home) == ["another series of its study has more instances"]
    home.receive(ct_series(1, range(9), series=3))
    home.receive([ct_slice(1, 7, series=2)])
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert "another series of its study was read" in refusals(home)
    with home.database.reading() as session:
        rows = session.scalars(
            select(ScanRow).join(ResultRow, ResultRow.scan == ScanRow.id)
        ).all()
        assert len({row.series for row in rows}) == 1
    assert [home.made_of(row).instances for row in rows] == [7, 8]


def test_a_scan_of_more_than_all_that_may_be_read_is_refused(
    home: SeriesHome, bundles: Pair
) -> None:
    encoder, champion = bundles(Unit.SERIES, Reading(choose=Choose.ALL, at_most=4))
    home.watch("nodules", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(5)))
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    (reason,) = refusals(home)
    assert reason.startswith("series of 5 instances: it reads all of a scan, and of at most 4")


def test_a_study_is_read_as_one_scan_of_its_matching_series(
    home: SeriesHome, bundles: Pair
) -> None:
    reading = Reading(at_most=3, select=Selection(protocol_words=("CHEST",)))
    encoder, champion = bundles(Unit.STUDY, reading)
    _, version = home.watch("whole", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(10)))
    home.receive(ct_series(1, range(40), series=2, ProtocolName="HEAD"))
    home.wait(minutes=3)
    home.embedder.embed("whole")
    alone, _ = instances_alone(champion, [1, 5, 8])
    (vector,), _ = read(home, version)
    np.testing.assert_allclose(vector, alone.mean(axis=0), **_HALF)


class CountingVault(Vault):
    """Counts how often each file is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, digest: str) -> bytes:
        self.read.append(digest)
        return super().get(digest)


def test_what_was_decoded_for_one_version_is_not_decoded_again_for_another(
    ct: SeriesHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    ct.receive(ct_series(1, range(10)))
    ct.wait(minutes=3)
    ct.assembler.assemble()
    decoded: list[int] = []

    def counting(ds, **how):  # type: ignore[no-untyped-def]
        decoded.append(int(ds.InstanceNumber))
        return decode(ds, **how)

    monkeypatch.setattr("monitor.embedding.scan_preparation.decode", counting)
    vault = CountingVault(ct.root / "vault")
    embedder = Embedder(ct.database, ct.bundles, vault, ct.clock, device="cpu", threads=1)
    embedder.embed("nodules")
    assert ct.count(EmbeddingRow) == 2
    assert decoded == [1, 5, 8]
    (scan,) = ct.scans()
    assert sorted(vault.read.count(digest) for digest in set(vault.read)) == [1, 1, 1, 2]
    assert vault.read.count(scan.vault_digest) == 2  # to select, and to prepare


def test_one_image_of_a_series_is_shown_the_middle_of_those_that_are_read(
    ct: SeriesHome, bundles: Pair
) -> None:
    ct.receive(ct_series(1, range(10)))
    ct.wait(minutes=3)
    ct.assembler.assemble()
    _, champion = bundles()
    image = ScanImages(ct.vault).image(ct.scans()[0], champion.preprocessing)
    assert np.array_equal(image.values, decode(ct_slice(1, 5)).values)


def test_a_monitor_whose_versions_read_other_units_is_refused(
    home: SeriesHome, bundles: Pair
) -> None:
    with pytest.raises(MonitorSpecError, match=r"one instance, .* as one series"):
        home.watch("mixed", encoder=bundles(Unit.INSTANCE)[0], champion=bundles()[1])


def test_a_monitor_of_series_goes_from_references_to_a_verdict(
    ct: SeriesHome, tmp_path: Path
) -> None:
    for patient in range(210):
        ct.receive(ct_series(patient, range(2)))
    ct.wait(hours=1)
    store = ProfileStore(tmp_path / "profiles")
    built = build_references(
        ct.database,
        ct.embedder,
        store,
        "nodules",
        since=None,
        until=None,
        by=SYSTEM,
        at=ct.clock.at,
    )
    assert (built.scans, built.patients) == (210, 210)
    ct.wait(days=1)
    start = ct.clock.at
    for patient in range(300, 325):
        ct.receive(ct_series(patient, range(4)))
    ct.wait(hours=1)
    window = Window(start=start, end=ct.clock.at)
    ct.embedder.embed("nodules", window=window)
    with ct.database.reading() as session:
        monitor = require_monitor(session, "nodules")
        found = evaluate(session, store, monitor, window, now=ct.clock.at)
    assert [item.verdict.scans for item in found.verdicts] == [25, 25]
    assert found.p_value is not None
    assert ct.ledger_is_valid()


def test_a_label_of_an_instance_holds_for_its_series_and_knows_what_was_said_of_that(
    ct: SeriesHome,
) -> None:
    ct.receive(ct_series(1, range(4)))
    ct.receive(ct_series(2, range(4)))
    ct.wait(minutes=3)
    ct.embedder.embed("nodules")
    one, other = ct.scans()
    instance = next(row for row in ct.scans(Unit.INSTANCE) if row.id in ct.members(one))
    signed = Label(
        line=1,
        instance=instance.instance,
        task=TASK,
        value=1,
        provenance=Provenance.REPORT,
        reader="r1",
        signed_at=ct.clock.at + timedelta(hours=1),
    )
    with ct.database.transaction() as session:
        session.execute(update(ResultRow).values(delivery="delivered"))
        ct.wait(hours=2)
        attached = attach(session, [signed], site=SITE, actor="test", at=ct.clock.at)
    assert attached.ai_influenced == 1
    with ct.database.reading() as session:
        found = latest(session, [one.id, other.id])
        assert {key: row.value for key, row in found.items()} == {(one.id, TASK): 1}
        version = session.scalars(select(ResultRow.version)).first()
        assert version is not None
        results = labelled_results(session, version=version, task=TASK)
        known = first_labels(session, results, task=TASK)
    assert [scan.id for scan in results.scans] == [one.id]
    assert known[0] == ct.clock.at
