"""Policies are read week by week on the same labels, each scan by what served when it came."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from shifted_history import ANCHOR, WEEK
from sklearn.metrics import roc_auc_score
from tiny_bundles import TASK, finding

from monitor.tables import LabelRow, ScanRow
from retrain.backtesting.labelled import KnownScan, LabelledSpan
from retrain.backtesting.stored_reading import Heads
from retrain.backtesting.weekly import Floor, weekly
from retrain.strategies.heads import Head, with_head

SCANS = 300
UNTIL = ANCHOR + 3 * WEEK


def heads(sign: float) -> Heads:
    head = Head(weight=np.array([sign, 0.0]), bias=0.0)
    return Heads(state=with_head({}, TASK, head), tasks=(finding(),))


def known(number: int, *, finding: bool, days: float, late: float, by_ai: bool) -> KnownScan:
    arrived = ANCHOR + timedelta(days=days)
    return KnownScan(
        scan=ScanRow(id=number, site="north", patient=f"p{number}", arrived_at=arrived),
        labels=(
            LabelRow(
                id=number,
                scan=number,
                task=TASK,
                value=int(finding),
                classes=None,
                provenance="report",
                reader="",
                signed_at=None,
                ai_influenced=by_ai,
                arrived_at=arrived + timedelta(days=late),
            ),
        ),
    )


@pytest.fixture
def span() -> LabelledSpan:
    """Three weeks; a tenth of the labels an AI influenced, a tenth come after the end."""
    rng = np.random.default_rng(3)
    truth = rng.random(SCANS) < 0.4
    embeddings = rng.normal(size=(SCANS, 2)).astype(np.float32)
    embeddings[:, 0] += truth
    scans = tuple(
        known(
            number,
            finding=bool(truth[number]),
            days=21 * number / SCANS,
            late=30 if number % 10 == 1 else 0.01,
            by_ai=number % 10 == 2,
        )
        for number in range(SCANS)
    )
    return LabelledSpan(
        scans=scans, embeddings=embeddings, since=ANCHOR, until=UNTIL, present=1
    )


def test_a_week_is_read_by_what_served_then(span: LabelledSpan) -> None:
    switched = ANCHOR + WEEK
    weeks, whole = weekly(span, TASK, [(ANCHOR, heads(1.0)), (switched, heads(-1.0))])
    assert [week.scans for week in weeks] == [80, 80, 80]
    for week, sign in zip(weeks, (1.0, -1.0, -1.0), strict=True):
        chosen = [
            place
            for place, one in enumerate(span.scans)
            if week.start <= one.scan.arrived_at < week.start + WEEK
            and place % 10 not in {1, 2}
        ]
        expected = roc_auc_score(span.truth[chosen], sign * span.embeddings[chosen, 0])
        figure = week.figures["auc"]
        assert figure is not None
        assert figure.estimate == pytest.approx(expected, abs=1e-6)
        called = sign * span.embeddings[chosen, 0] >= 0
        sensitivity = week.figures["sensitivity"]
        assert sensitivity is not None
        assert sensitivity.estimate == pytest.approx(
            called[span.truth[chosen]].mean(), abs=1e-6
        )
    assert whole.scans == 240


def test_labels_that_an_ai_influenced_or_that_came_too_late_judge_nothing(
    span: LabelledSpan,
) -> None:
    assert span.judged.sum() == 240
    assert not span.judged[[place for place in range(SCANS) if place % 10 in {1, 2}]].any()


def test_a_truth_is_known_from_the_moment_its_label_came(span: LabelledSpan) -> None:
    scan = span.scans[1]
    came = scan.labels[0].arrived_at
    assert scan.known_since() == came
    assert scan.truth(came) is None
    assert scan.truth(came + timedelta(seconds=1)) is not None


def test_a_week_without_a_class_has_no_figure_and_is_not_below(span: LabelledSpan) -> None:
    well = tuple(one for one, sick in zip(span.scans, span.truth, strict=True) if not sick)
    rows = np.flatnonzero(~span.truth)
    healthy = LabelledSpan(
        scans=well, embeddings=span.embeddings[rows], since=ANCHOR, until=UNTIL, present=1
    )
    weeks, whole = weekly(healthy, TASK, [(ANCHOR, heads(1.0))])
    assert all(week.figures["auc"] is None for week in (*weeks, whole))
    assert all(week.figures["sensitivity"] is None for week in weeks)
    floor = Floor(auc=0.9, sensitivity=0.9, specificity=0.0)
    assert not any(map(floor.below, weeks))
    assert Floor(auc=0.9, sensitivity=0.9, specificity=0.99).surely_below(whole)


def test_a_week_in_which_nothing_could_be_judged_has_no_figures(span: LabelledSpan) -> None:
    longer = LabelledSpan(
        scans=span.scans,
        embeddings=span.embeddings,
        since=ANCHOR,
        until=UNTIL + 2 * WEEK,
        present=1,
    )
    weeks, _ = weekly(longer, TASK, [(ANCHOR, heads(1.0))])
    assert weeks[-1].scans == 0
    assert set(weeks[-1].figures.values()) == {None}
