from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from monitored_history import ANCHOR, History
from scipy.special import expit
from scipy.stats import binom
from sqlalchemy import select

from monitor.labels import Label, Provenance, attach
from monitor.performance.falls import IMPACT_ALPHA, Fall, falls, first_labels
from monitor.performance.performance import LabelledResults, labelled_results, measure
from monitor.tables import ScanRow

START = datetime(2026, 5, 4, tzinfo=UTC)


def results(
    rng: np.random.Generator,
    *,
    scans: int = 300,
    separation: float = 2.5,
    bias: float = 0.0,
    scans_of_a_patient: int = 1,
) -> LabelledResults:
    """Draw results of a model whose scores of the two classes are normal."""
    patients = np.arange(scans) // scans_of_a_patient
    truth = patients % 3 == 0
    margin = rng.normal(np.where(truth, separation / 2, -separation / 2) + bias)
    return LabelledResults(
        scores=expit(margin),
        truth=truth,
        patients=tuple(f"p{patient}" for patient in patients),
        scans=(),
        threshold=0.5,
        ai_influenced=0,
    )


def daily(scans: int) -> list[datetime]:
    """Ten labels a day."""
    return [START + timedelta(days=number // 10) for number in range(scans)]


def found(before: LabelledResults, after: LabelledResults) -> list[Fall]:
    return falls(measure(before), after, known_at=daily(len(after.scores)))


def test_a_model_that_lost_its_discrimination_fell_in_every_measure() -> None:
    rng = np.random.default_rng(0)
    fallen = found(results(rng, scans=600), results(rng, scans=600, separation=0.5))
    assert [fall.measure for fall in fallen] == ["AUC", "sensitivity", "specificity"]
    assert all(fall.after < fall.before for fall in fallen)
    assert [fall.patients for fall in fallen] == [600, 200, 400]


@pytest.mark.parametrize(("bias", "fallen"), [(-1.2, "sensitivity"), (1.2, "specificity")])
def test_an_operating_point_that_moved_fell_in_one_measure_and_not_in_the_area(
    bias: float, fallen: str
) -> None:
    rng = np.random.default_rng(1)
    assert [fall.measure for fall in found(results(rng), results(rng, bias=bias))] == [fallen]


def test_a_model_that_became_better_did_not_fall() -> None:
    rng = np.random.default_rng(2)
    assert found(results(rng), results(rng, separation=4.0)) == []


@pytest.mark.parametrize("scans_of_a_patient", [1, 2])
def test_equal_performance_is_called_a_fall_no_more_often_than_declared(
    scans_of_a_patient: int,
) -> None:
    rng, times = np.random.default_rng(3), 60
    called = 0
    for _ in range(times):
        before = results(rng, scans=240, scans_of_a_patient=scans_of_a_patient)
        after = results(rng, scans=180, scans_of_a_patient=scans_of_a_patient)
        called += bool(found(before, after))
    # What at most 1 % would exceed once in a thousand tests.
    assert called <= binom.ppf(0.999, times, IMPACT_ALPHA)


def test_a_small_fall_is_no_impact() -> None:
    rng = np.random.default_rng(4)
    before = results(rng, scans=6000)
    assert found(before, results(rng, scans=2000, bias=-0.1)) == []


def of_patients(
    patients: Sequence[str], scores: Sequence[float], truth: Sequence[bool]
) -> LabelledResults:
    return LabelledResults(
        scores=np.array(scores),
        truth=np.array(truth),
        patients=tuple(patients),
        scans=(),
        threshold=0.5,
        ai_influenced=0,
    )


def test_a_patient_counts_once_by_what_was_known_first() -> None:
    rng = np.random.default_rng(5)
    before = measure(results(rng, scans=3000, separation=4.0))
    # One missed patient with sixty scans, sixty times labelled: no fall of sensitivity.
    patients = ["missed"] * 60 + [f"p{number}" for number in range(30)]
    scores = [0.1] * 60 + [0.9] * 30
    one = of_patients(patients, scores, [True] * 90)
    assert falls(before, one, known_at=daily(90)) == []
    sixty = of_patients([f"p{number}" for number in range(90)], scores, [True] * 90)
    [fall] = falls(before, sixty, known_at=daily(90))
    assert (fall.measure, fall.patients) == ("sensitivity", 90)


def test_scans_that_were_labelled_together_count_by_their_mean() -> None:
    rng = np.random.default_rng(6)
    before = measure(results(rng, scans=3000, separation=4.0))
    # Of each patient's two scans one is missed; a third comes later, and is read right.
    patients = [f"p{number // 3}" for number in range(300)]
    scores = [0.1, 0.9, 0.9] * 100
    known_at = [
        START + timedelta(days=number // 3, hours=12 * (number % 3 == 2))
        for number in range(300)
    ]
    [fall] = falls(before, of_patients(patients, scores, [True] * 300), known_at=known_at)
    assert fall.after == pytest.approx(0.5)
    assert fall.patients == 100


def test_the_order_is_that_of_the_labels() -> None:
    rng = np.random.default_rng(7)
    before = measure(results(rng, scans=3000, separation=4.0))
    scores = np.concatenate([np.full(25, 0.1), np.full(500, 0.9)])
    sick = of_patients([f"p{number}" for number in range(525)], scores.tolist(), [True] * 525)
    first = [START + timedelta(days=number) for number in range(525)]
    # Misses that come at once are evidence, which stays; spread among hits they are none.
    assert falls(before, sick, known_at=first)
    spread = rng.permutation(525)
    assert falls(before, sick, known_at=[first[place] for place in spread]) == []


def attached(history: History, scans: Sequence[int], *, value: int, at: datetime) -> None:
    with history.database.transaction() as session:
        rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
        attach(
            session,
            [
                Label(
                    line=number,
                    instance=row.instance,
                    task="pneumonia",
                    value=value,
                    provenance=Provenance.READER,
                    reader="reader",
                    signed_at=at,
                )
                for number, row in enumerate(rows)
            ],
            site="site",
            actor="test",
            at=at,
        )


def test_a_correction_does_not_change_when_a_label_first_came(bare_history: History) -> None:
    history = bare_history
    scans = history.add(4, at=ANCHOR, probabilities=[0.1, 0.2, 0.3, 0.4])
    late, later = ANCHOR + timedelta(hours=1), ANCHOR + timedelta(hours=2)
    attached(history, scans[:2], value=1, at=late)
    attached(history, scans[2:], value=1, at=later)
    attached(history, scans[:1], value=0, at=later + timedelta(hours=1))
    with history.database.reading() as session:
        labelled = labelled_results(session, version=history.champion.id, task="pneumonia")
        known_at = first_labels(session, labelled, task="pneumonia")
    assert labelled.truth.tolist() == [False, True, True, True]
    assert known_at == [late, late, later, later]
