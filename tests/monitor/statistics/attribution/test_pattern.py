"""A pattern's numbers: the same names whatever is known, finite, and pointing the right way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_class_world import Drawn, drawn, each_its_own, known

from monitor.statistics.attribution.pattern import (
    AttributionReference,
    Measures,
    Pattern,
    SpaceShift,
    pattern,
)
from monitor.statistics.attribution.shifts import signed_log
from monitor.statistics.attribution.views import ASPECTS
from monitor.statistics.embeddings import Floats

#: one of each aspect
NAMES = tuple("abcde")
GRAY_VALUES = ASPECTS.index("gray values")


def measures(scans: Drawn, *, moved: float = 0.0, moved_gray_values: float = 0.0) -> Floats:
    rng = np.random.default_rng(len(scans.finding))
    own = rng.standard_normal((len(scans.finding), len(ASPECTS)))
    own[:, GRAY_VALUES] += 1.5 * scans.finding + moved_gray_values
    own[:, 0] += moved
    return own


@pytest.fixture(scope="module")
def reference() -> AttributionReference:
    world = known()
    return AttributionReference.fit(
        monitoring=world.profile.portfolio,
        monitoring_embeddings=world.scans.embeddings,
        champion=world.profile.portfolio,
        champion_embeddings=world.scans.embeddings,
        patients=each_its_own(len(world.scans.finding)),
        probabilities=world.probabilities(world.scans),
        finding=world.scans.finding,
        measures=Measures(values=measures(world.scans), names=NAMES, aspects=ASPECTS),
        seed=0,
    )


def found(
    reference: AttributionReference,
    scans: Drawn,
    *,
    moved: float = 0.0,
    moved_gray_values: float = 0.0,
    with_pixels: bool = True,
    groups: list[str] | None = None,
) -> Pattern:
    patients = each_its_own(len(scans.finding))
    space = reference.monitoring
    shift = SpaceShift.of(space, space.see(scans.embeddings), patients, groups)
    return pattern(
        reference,
        monitoring=shift,
        champion=shift,
        probabilities=known().probabilities(scans),
        measures=measures(scans, moved=moved, moved_gray_values=moved_gray_values)
        if with_pixels
        else None,
        patients=patients,
    )


def test_names_are_the_same_with_and_without_pixels_and_groups(
    reference: AttributionReference,
) -> None:
    scans = drawn(100, np.random.default_rng(1))
    whole = found(reference, scans, groups=["x", "y"] * 50)
    assert found(reference, scans, with_pixels=False).names == whole.names
    assert found(replace(reference, pixels=None), scans).names == whole.names
    assert len(whole.names) == len(set(whole.names)) == len(whole.values)
    for one in (whole, found(reference, scans, with_pixels=False)):
        assert np.isfinite(one.values).all()


def test_a_new_prevalence_is_read_by_all_views_and_explains_the_members(
    reference: AttributionReference,
) -> None:
    pieces = found(reference, drawn(300, np.random.default_rng(2), prevalence=0.8)).pieces
    assert pieces["finding"]["change of prevalence"] == pytest.approx(0.4, abs=0.1)
    views = pieces["views"]
    for name in ("head", "monitoring", "champion", "gray values"):
        assert views[f"{name}: change"] == pytest.approx(0.4, abs=0.15)
    assert views["all: common change"] > 0.25
    members = pieces["monitoring members"]
    assert members["whitened-mean-all"] > 2.0
    assert abs(members["whitened-mean-all, prevalence accounted for"]) < 1.0


def test_a_change_of_all_pixels_moves_pixels_and_not_the_prevalence(
    reference: AttributionReference,
) -> None:
    pieces = found(reference, drawn(300, np.random.default_rng(3)), moved=3.0).pieces
    assert pieces["pixels"]["texture: displacement"] > 2.0
    assert pieces["pixels"]["all alike"] > 0.5
    assert pieces["pixels"]["layout: displacement"] < 0.3
    assert abs(pieces["finding"]["change of prevalence"]) < 0.1


def test_views_that_a_change_left_alone_tell_the_prevalence_best(
    reference: AttributionReference,
) -> None:
    scans = drawn(300, np.random.default_rng(6), prevalence=0.7)
    views = found(reference, scans, moved_gray_values=-1.5).pieces["views"]
    # Gray values tell the opposite: they moved farther than a new prevalence moves them.
    assert views["gray values: change"] < -0.3
    assert views["all: common change"] == 0.0
    for name in ("least moved", "second", "third"):
        assert views[f"{name}: change"] == pytest.approx(0.3, abs=0.12)
        assert views[f"{name}: moved scores"] < views["gray values: moved scores"]


def test_one_groups_displacement_is_located(reference: AttributionReference) -> None:
    scans = drawn(200, np.random.default_rng(4))
    scans.embeddings[:80, -4:] += 3.0
    pieces = found(reference, scans, groups=["x"] * 80 + ["y"] * 120).pieces
    place = pieces["champion location"]
    assert place["share of the group"] == pytest.approx(0.4)
    assert place["displacement of the group"] > 1.0
    assert abs(place["displacement of the others"]) < 0.5
    assert place["contrast"] > 2.0


def test_pieces_cannot_be_changed(reference: AttributionReference) -> None:
    own = found(reference, drawn(60, np.random.default_rng(5)))
    with pytest.raises(TypeError):
        own.pieces["size"]["patients"] = 1.0  # type: ignore[index]


def test_signed_logs_keep_order_and_sign() -> None:
    values = [-100.0, -1.0, 0.0, 1.0, 100.0]
    assert [signed_log(v) for v in values] == sorted(signed_log(v) for v in values)
    assert signed_log(-3.0) == -signed_log(3.0) == pytest.approx(-np.log(4.0))
