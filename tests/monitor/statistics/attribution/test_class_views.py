"""Estimates of a prevalence by discriminants, and what they have in common."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from monitor.statistics.attribution.class_views import ClassView
from monitor.statistics.attribution.views import agreement, agreement_of_shapes
from monitor.statistics.embeddings import Floats

SHARE = 0.4


def drawn(scans: int, share: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    finding = (rng.random(scans) < share).astype(np.float64)
    values = rng.standard_normal((scans, 5)) @ np.diag([1.0, 2.0, 0.5, 1.0, 3.0])
    values[:, 0] += 2.0 * finding
    values[:, 2] += 0.8 * finding
    return values, finding


def view(scans: int = 1000) -> ClassView:
    return ClassView.fit(*drawn(scans, SHARE, np.random.default_rng(1)), seed=0)


def test_the_discriminant_is_fishers() -> None:
    values, finding = drawn(2000, SHARE, np.random.default_rng(2))
    ours = ClassView.fit(values, finding, seed=0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(values, finding)
    scores = values @ ours.direction + ours.offset
    # A ridge of a twentieth bends the direction a little.
    assert np.corrcoef(scores, theirs.decision_function(values))[0, 1] > 0.97
    assert scores.mean() == pytest.approx(theirs.decision_function(values).mean(), abs=0.5)


def test_the_references_own_scores_are_those_of_others_discriminants() -> None:
    rng = np.random.default_rng(3)
    # No class differs: scores in sample would seem to tell them apart.
    values, finding = rng.standard_normal((200, 40)), (rng.random(200) < 0.5).astype(float)
    assert abs(ClassView.fit(values, finding, seed=0).separation) < 0.4


@pytest.mark.filterwarnings("error")
def test_a_reference_that_is_read_perfectly_lies_apart_without_end() -> None:
    finding = np.repeat([0.0, 1.0], 100)
    perfect = ClassView.of_log_odds(np.where(finding == 1.0, 30.0, -30.0), finding)
    assert perfect.separation == np.inf
    # Nothing scatters, and still the reading has an error to weigh it by.
    assert perfect.read(np.full((50, 1), 30.0), prevalence=0.5).error > 0.0
    turned = ClassView.of_log_odds(np.where(finding == 1.0, -30.0, 30.0), finding)
    assert turned.separation == -np.inf
    assert ClassView.of_log_odds(np.zeros(200), finding).separation == 0.0


def test_estimates_are_unbiased_and_scatter_by_their_standard_error() -> None:
    own, rng = view(), np.random.default_rng(4)
    readings = [own.read(drawn(150, 0.7, rng)[0], prevalence=SHARE) for _ in range(80)]
    changes = np.array([one.change for one in readings])
    errors = np.array([one.error for one in readings])
    assert changes.mean() == pytest.approx(0.3, abs=0.04)
    # Theirs holds the reference's part too, which all windows share.
    assert 0.85 < errors.mean() / changes.std() < 1.4
    assert readings[0].evidence == pytest.approx(readings[0].change / readings[0].error)


def test_views_agree_on_a_new_prevalence_and_contradict_when_scans_moved() -> None:
    rng = np.random.default_rng(5)
    views = {name: view() for name in ("one", "two", "three")}
    changed, _ = drawn(300, 0.75, rng)
    same, _ = drawn(300, SHARE, rng)
    moved = {"one": same + np.array([1.5, 0, 0, 0, 0]), "two": same, "three": same - 1.0}
    found = agreement(
        {name: own.read(changed, prevalence=SHARE) for name, own in views.items()}, views
    )
    assert found.median == pytest.approx(0.35, abs=0.08)
    assert found.common == pytest.approx(found.median, abs=1e-9)
    assert found.heterogeneity == pytest.approx(0.0, abs=1e-9)
    apart = agreement(
        {name: own.read(moved[name], prevalence=SHARE) for name, own in views.items()}, views
    )
    assert apart.common == 0.0
    assert apart.range > 0.8
    assert apart.heterogeneity > 20


def test_shapes_do_not_mind_what_moved() -> None:
    rng = np.random.default_rng(6)
    views = {"one": view(), "two": view()}
    changed, _ = drawn(600, 0.75, rng)
    moved = changed + np.array([1.0, 0, 0, 0, 0])
    readings = {name: own.read(moved, prevalence=SHARE) for name, own in views.items()}
    assert agreement(readings, views).median > 0.55
    assert agreement_of_shapes(readings, views).median == pytest.approx(0.35, abs=0.15)


def test_a_view_that_cannot_tell_the_classes_has_no_say() -> None:
    rng = np.random.default_rng(7)
    blind = ClassView.fit(
        rng.standard_normal((500, 3)), (rng.random(500) < SHARE).astype(float), seed=0
    )
    views = {"good": view(), "blind": blind}
    readings = {
        "good": views["good"].read(drawn(200, 0.7, rng)[0], prevalence=SHARE),
        "blind": blind.read(rng.standard_normal((200, 3)) + 5.0, prevalence=SHARE),
    }
    alone = agreement({"good": readings["good"]}, views)
    assert agreement(readings, views) == alone
    nothing = agreement({"blind": readings["blind"]}, views)
    assert (nothing.median, nothing.common, nothing.range, nothing.heterogeneity) == (
        0,
        0,
        0,
        0,
    )
