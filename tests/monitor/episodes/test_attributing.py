"""From a window of scans to what its pattern says, through the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from monitored_history import ANCHOR, DIMENSION, HALF_WEEK, History
from readings import read_reference, readings
from sqlalchemy import select

from monitor.embedding.embedding import Embedder
from monitor.episodes.attributing import LEAST_REFERENCE, LEAST_WINDOW, Attributed, Attributor
from monitor.episodes.episode_evidence import gather
from monitor.evaluation import evaluate
from monitor.imaging.pixel_measures import MEASURES
from monitor.subgroups import Subgroup
from monitor.tables import EmbeddingRow, ScanRow
from monitor.windows import Window
from registry.bundles.heads import Task, TaskKind
from registry.versions import VersionRow

WEEK = Window(start=ANCHOR, end=ANCHOR + timedelta(days=7))


class Measured:
    """Stands where pixels would be: these scans are rows of numbers."""

    def __init__(self) -> None:
        self.gone: set[int] = set()
        self.blank: set[int] = set()

    def measures(self, _: object, scans: Sequence[ScanRow]) -> npt.NDArray[np.float64]:
        return np.stack([self._row(scan.id) for scan in scans])

    def _row(self, scan: int) -> npt.NDArray[np.float64]:
        if scan in self.gone:
            return np.full(len(MEASURES), np.nan)
        if scan in self.blank:
            return np.zeros(len(MEASURES))
        return np.random.default_rng(scan).normal(size=len(MEASURES))


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def attributor(history: History, measured: Measured) -> Attributor:
    return Attributor(history.profiles, cast("Embedder", measured))


def attribute(
    history: History, attributor: Attributor, place: Subgroup | None = None
) -> Attributed:
    with history.database.reading() as session:
        return attributor.attribute(session, history.monitor, WEEK, place)


def read_window(history: History, scans: int, *, prevalence: float, site: str = "site") -> None:
    history.add(
        scans,
        at=ANCHOR,
        shift=0.3,
        site=site,
        probabilities=readings(3, scans, prevalence=prevalence)[0],
    )


def test_a_window_gets_an_answer_with_its_evidence_and_the_same_one_again(
    history: History, attributor: Attributor, measured: Measured
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    read_window(history, 150, prevalence=0.4)
    found = attribute(history, attributor)
    assert found.attribution is not None, found.reason
    assert sum(share for _, share in found.attribution.shares) == pytest.approx(1.0)
    document = found.to_dict()
    assert document["leading"] == found.attribution.leading.value
    assert {"piece", "contribution", "numbers"} == set(document["evidence"][0])
    again = attribute(history, Attributor(history.profiles, cast("Embedder", measured)))
    assert again.to_dict() == document


def test_the_prevalence_is_told_by_scans_apart_from_the_shift(
    history: History, attributor: Attributor
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    read_window(history, 150, prevalence=0.4)
    read_window(history, 400, prevalence=0.8, site="elsewhere")
    found = attribute(history, attributor, Subgroup.parse("site=site"))
    assert found.prevalence is not None
    interval = found.prevalence.interval
    assert interval.low < 0.8 < interval.high
    assert found.prevalence.before == pytest.approx(0.4, abs=0.06)
    assert found.prevalence.scans == 400
    assert found.prevalence_words().endswith("told by 400 scans that nothing else touched")


@pytest.mark.parametrize(
    ("labels", "scans", "reason"),
    [
        (0, 150, "labelled scans"),
        (LEAST_REFERENCE - 1, 150, "labelled scans in the reference"),
        (400, LEAST_WINDOW - 1, "patients that both encoders and the champion have read"),
        (400, 0, "patients that both encoders and the champion have read"),
    ],
)
def test_what_lacks_is_said(
    history: History, attributor: Attributor, labels: int, scans: int, reason: str
) -> None:
    if labels:
        read_reference(history, *readings(1, labels, prevalence=0.4))
    if scans:
        read_window(history, scans, prevalence=0.4)
    found = attribute(history, attributor)
    assert found.attribution is None
    assert reason in str(found.reason)
    assert found.to_dict() == {"cause": None, "reason": found.reason}


@pytest.mark.parametrize(
    ("kind", "classes", "positive", "threshold", "reason"),
    [
        ("multi-label", ["fluid", "mass"], None, 0.5, "task pneumonia has 2 findings, and"),
        ("multi-class", ["no", "some", "much"], "much", 0.5, "has 3 classes, and"),
        ("multi-class", ["no", "yes"], None, None, "task pneumonia has no threshold"),
        ("multi-class", ["no", "yes"], "yes", 0.5, None),
        ("multi-label", ["yes"], None, 0.5, None),
    ],
)
def test_a_task_that_the_classifier_s_card_excludes_gets_no_pattern_and_the_reason(
    history: History,
    attributor: Attributor,
    kind: str,
    classes: list[str],
    positive: str | None,
    threshold: float | None,
    reason: str | None,
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    read_window(history, 150, prevalence=0.4)
    task = Task(
        name="pneumonia",
        kind=TaskKind(kind),
        classes=tuple(classes),
        positive=positive,
        threshold=threshold,
    )
    with history.database.transaction() as session:
        session.get_one(VersionRow, history.champion.id).tasks = [task.to_json()]
    found = attribute(history, attributor)
    if reason is None:
        assert found.attribution is not None, found.reason
    else:
        assert found.attribution is None
        assert reason in str(found.reason)


def test_a_few_scans_that_cannot_be_read_again_are_left_out_and_said(
    history: History, attributor: Attributor, measured: Measured
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    history.watch("site")
    window = history.add(
        150, at=ANCHOR, shift=0.3, probabilities=readings(3, 150, prevalence=0.4)[0]
    )
    history.add(
        150,
        at=history.window(1).start,
        shift=0.3,
        probabilities=readings(4, 150, prevalence=0.4)[0],
    )
    measured.gone = {*range(1, 20, 10), window[7]}
    found = attribute(history, attributor)
    assert found.attribution is not None, found.reason
    assert found.unread == found.to_dict()["unread"] == 3
    with history.database.reading() as session:
        evaluation = evaluate(
            session,
            history.profiles,
            history.monitor,
            history.window(0),
            now=history.window(0).end,
        )
        evidence = gather(session, history.profiles, evaluation, attributor=attributor)
    [said] = [one for one in evidence.diagnosis.reasons if "cannot be read again" in one]
    assert said.startswith("the pattern does without 3 scans whose pixels")


@pytest.mark.parametrize("what", ["reference", "window"])
def test_where_many_scans_cannot_be_read_again_there_is_no_pattern(
    history: History, attributor: Attributor, measured: Measured, what: str
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    read_window(history, 150, prevalence=0.4)
    measured.gone = set(range(1, 22)) if what == "reference" else set(range(401, 410))
    found = attribute(history, attributor)
    assert found.attribution is None
    assert str(found.reason).startswith(f"scans of the {what} whose pixels can be read again")


@pytest.mark.parametrize("others", [150, 0])
def test_blank_images_get_an_answer_as_others_do(
    history: History, attributor: Attributor, measured: Measured, others: int
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    history.watch("site")
    if others:
        history.add(others, at=ANCHOR, probabilities=readings(3, others, prevalence=0.4)[0])
    blank = history.add(100, at=ANCHOR, site="site", probabilities=[0.25] * 100)
    with history.database.transaction() as session:
        for row in session.scalars(select(EmbeddingRow).where(EmbeddingRow.scan.in_(blank))):
            row.vector = np.full(DIMENSION, 0.25, dtype="<f2").tobytes()
    measured.blank = set(blank)
    for span in (WEEK, Window(start=ANCHOR, end=ANCHOR + HALF_WEEK)):
        with history.database.reading() as session:
            found = attributor.attribute(session, history.monitor, span, None)
            assert found.attribution is not None, found.reason
            evaluation = evaluate(
                session, history.profiles, history.monitor, history.window(0), now=WEEK.end
            )
            evidence = gather(session, history.profiles, evaluation, attributor=attributor)
    assert any(
        one.startswith(f"100 of {100 + others} scans are to the bit")
        for one in evidence.diagnosis.reasons
    )


def test_an_alarm_carries_the_pattern_and_what_its_metadata_say(
    history: History, attributor: Attributor
) -> None:
    read_reference(history, *readings(1, 400, prevalence=0.4))
    history.watch("view")
    for number in (0, 1):
        history.add(
            150,
            at=history.window(number).start,
            shift=0.6,
            software_version="2.0",
            probabilities=readings(3, 150, prevalence=0.4)[0],
        )
    with history.database.reading() as session:
        evaluation = evaluate(
            session,
            history.profiles,
            history.monitor,
            history.window(0),
            now=history.window(0).end,
        )
        found = gather(session, history.profiles, evaluation, attributor=attributor)
        plain = gather(session, history.profiles, evaluation)
    pattern = found.document["pattern"]
    assert pattern["leading"] == pattern["shares"][0][0]
    [software] = found.document["metadata"]
    assert software["attribute"] == "software_version"
    assert software["risen"] == [{"value": "2.0", "before": 0.0, "now": 1.0}]
    assert any("software version differs" in one for one in found.diagnosis.reasons)
    assert plain.document["pattern"] is None
    assert plain.document["metadata"] == []
