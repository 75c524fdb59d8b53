from __future__ import annotations

from datetime import timedelta

import pytest
from monitored_history import ANCHOR
from plan_texts import with_values
from retraining_rows import AT_LEAST, MODEL, PLAN, SITE, TASK, Retraining, ledger_is_valid
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets
from monitor.datasets import Purpose
from monitor.episodes.episodes import Impact, require_episode
from monitor.labels import Provenance
from monitor.tables import RefusalRow, ScanRow
from registry.errors import InsufficientDataError
from retrain import plans, run_data, runs
from retrain.tables import RunRow

TRAINING, SELECTION = Purpose.TRAINING, Purpose.SELECTION
LOCKED, REFERENCE = Purpose.LOCKED_DRIFTED, Purpose.LOCKED_REFERENCE


def frozen(retraining: Retraining, episode: int) -> dict[Purpose, list[ScanRow]]:
    """Return the scans of each set of the run that `decide` queued."""
    retraining.decide(episode)
    with retraining.database.reading() as session:
        run = session.scalars(select(RunRow).where(RunRow.episode == episode)).one()
        return {
            Purpose(purpose): datasets.members(session, dataset)
            for purpose, dataset in run.datasets.items()
        }


def patients(scans: list[ScanRow]) -> set[str]:
    return {scan.patient for scan in scans}


def of_first_run(session: Session, purpose: Purpose) -> list[ScanRow]:
    first = run_data.first_run(session, MODEL)
    return datasets.members(session, first.datasets[purpose.value])


def test_a_repair_is_trained_on_the_shift_with_as_much_of_the_past_mixed_in(
    retraining: Retraining,
) -> None:
    shifted = set(retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET))
    parts = frozen(retraining, retraining.open_episode(impact=Impact.MEASURED))
    assert set(parts) == {TRAINING, SELECTION, LOCKED, REFERENCE}
    with retraining.database.reading() as session:
        past = {scan.id for scan in of_first_run(session, TRAINING)}
        locked_before = {scan.id for scan in of_first_run(session, REFERENCE)}
    new = [scan for scan in parts[TRAINING] if scan.id in shifted]
    replayed = [scan for scan in parts[TRAINING] if scan.id not in shifted]
    assert {scan.id for scan in replayed} <= past
    assert len(replayed) == min(len(new), len(past))
    assert {scan.id for scan in parts[REFERENCE]} == locked_before
    assert ledger_is_valid(retraining.database)


def test_nothing_replayed_enters_a_locked_set(retraining: Retraining) -> None:
    shifted = set(retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET))
    parts = frozen(retraining, retraining.open_episode(impact=Impact.MEASURED))
    assert {scan.id for scan in parts[LOCKED]} <= shifted
    taught = {scan.id for part in (TRAINING, SELECTION) for scan in parts[part]}
    assert not taught & {scan.id for scan in parts[REFERENCE]}


def test_no_patient_stands_on_both_sides_even_when_patients_come_again(
    retraining: Retraining,
) -> None:
    shifted = retraining.shifted(4 * AT_LEAST, provenance=Provenance.DATASET)
    with retraining.database.transaction() as session:
        # Half of the shift is of patients whom the first version was made of or judged on.
        before = [
            scan.patient
            for purpose in (TRAINING, SELECTION, REFERENCE)
            for scan in of_first_run(session, purpose)
        ]
        returning = shifted[: len(shifted) // 2]
        for index, scan in enumerate(returning):
            session.get_one(ScanRow, scan).patient = before[index % len(before)]
    parts = frozen(retraining, retraining.open_episode(impact=Impact.MEASURED))
    taught = patients(parts[TRAINING]) | patients(parts[SELECTION])
    with retraining.database.reading() as session:
        taught |= patients(of_first_run(session, TRAINING))
        taught |= patients(of_first_run(session, SELECTION))
    assert not taught & patients(parts[LOCKED])
    assert not taught & patients(parts[REFERENCE])
    assert not patients(parts[TRAINING]) & patients(parts[SELECTION])
    assert set(returning) & {scan.id for scan in parts[TRAINING]}, "they may teach"


def test_scans_before_the_onset_of_others_or_refused_are_no_part_of_the_shift(
    retraining: Retraining,
) -> None:
    shifted = retraining.shifted(6)
    retraining.history.add(4, at=ANCHOR + timedelta(hours=1))  # the old software
    retraining.history.add(4, at=ANCHOR - timedelta(hours=1), software_version="2.0")
    episode = retraining.open_episode()
    with retraining.database.transaction() as session:
        session.add(
            RefusalRow(
                batch=999, scan=shifted[0], model=MODEL, reason="test", created_at=ANCHOR
            )
        )
    with retraining.database.reading() as session:
        found = run_data.shifted_scans(session, require_episode(session, episode), MODEL)
    assert [scan.id for scan in found] == shifted[1:]


def test_a_plan_names_the_sites_and_how_old_a_scan_may_be(retraining: Retraining) -> None:
    retraining.shifted(2 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED)
    for rule in ("sites: [elsewhere]", "within_days: 0.001"):
        retraining.apply_plan(f"{PLAN}\ndata:\n  {rule}\n")
        retraining.decide(episode)
    with retraining.database.reading() as session:
        waiting = session.scalars(select(RunRow.state).where(RunRow.episode == episode)).all()
    assert set(waiting) == {"superseded", "awaiting labels"}
    retraining.apply_plan(f"{PLAN}\ndata: {{sites: [{SITE}], within_days: 30}}\n")
    retraining.decide(episode)
    with retraining.database.reading() as session:
        states = session.scalars(select(RunRow.state).where(RunRow.episode == episode)).all()
    assert "queued" in states


@pytest.mark.parametrize("permitted", [True, False])
def test_labels_that_an_ai_influenced_train_by_the_plan_s_word_and_judge_never(
    retraining: Retraining, permitted: bool
) -> None:
    text = with_values(PLAN, selection_share="0.1") if permitted else PLAN
    if permitted:
        text = text.replace("labels:\n", "labels:\n  ai_influenced_may_train: true\n", 1)
    retraining.apply_plan(f"{text}\n# {permitted}\n")
    retraining.shifted(2 * AT_LEAST, provenance=Provenance.DATASET)
    influenced = set(retraining.shifted(20, read=True))
    retraining.clock.at += timedelta(days=8)
    retraining.label(sorted(influenced), signed_at=retraining.now)
    parts = frozen(retraining, retraining.open_episode(impact=Impact.MEASURED))
    by_part = {
        purpose: {scan.id for scan in scans} & influenced for purpose, scans in parts.items()
    }
    assert not by_part[SELECTION] | by_part[LOCKED] | by_part[REFERENCE]
    assert by_part[TRAINING] == (influenced if permitted else set())


def test_a_corrected_label_counts_by_its_correction(retraining: Retraining) -> None:
    scans = retraining.shifted(4, provenance=Provenance.DATASET)
    later = ANCHOR + timedelta(minutes=1)
    retraining.label(scans[:1], values=[1], provenance=Provenance.REPORT, signed_at=later)
    rules = plans.parse_plan(PLAN, source="plan.yaml").labels
    with retraining.database.reading() as session:
        rows = [session.get_one(ScanRow, scan) for scan in scans]
        counted = run_data.labelled_scans(session, rows, task=TASK, rules=rules)
    assert [scan.id for scan in counted] == scans[1:]


def test_an_imported_model_has_no_locked_sets_and_says_so(retraining: Retraining) -> None:
    with (
        retraining.database.reading() as session,
        pytest.raises(InsufficientDataError, match="which a first run would have made"),
    ):
        run_data.first_run(session, "general")


def test_data_are_frozen_once_and_their_digest_enters_the_ledger(
    retraining: Retraining,
) -> None:
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    episode = retraining.open_episode(impact=Impact.MEASURED)
    before = frozen(retraining, episode)
    retraining.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    after = frozen(retraining, episode)
    assert {purpose: [scan.id for scan in part] for purpose, part in before.items()} == {
        purpose: [scan.id for scan in part] for purpose, part in after.items()
    }
    with retraining.database.reading() as session:
        [run] = [row for row in runs.all_runs(session, MODEL) if row.episode == episode]
        assert run_data.locked_dataset(session, run, LOCKED) is not None
        assert run_data.locked_dataset(session, run, Purpose.REFERENCE) is None
