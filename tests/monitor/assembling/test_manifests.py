"""In which order instances are read."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.assembling.manifests import ListedSeries, Manifest, Member, in_order
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Selection, SeriesChoice

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def member(
    scan: int,
    *,
    height: float | None = None,
    number: int | None = None,
    orientation: tuple[float, ...] = UPRIGHT,
    series: str = "s",
    series_number: int | None = 1,
) -> Member:
    normal = np.cross(orientation[:3], orientation[3:])
    return Member(
        scan=scan,
        instance=f"i{scan:04d}",
        digest=f"{scan:064x}",
        series=series,
        modality="CT",
        protocol=None,
        series_number=series_number,
        number=number,
        position=None if height is None else tuple((height * normal + 3.0).tolist()),
        orientation=None if height is None else orientation,
    )


@given(st.permutations(range(12)), st.floats(0, np.pi), st.floats(0, np.pi))
def test_parallel_images_stand_along_their_normal_however_it_lies(
    order: list[int], one: float, other: float
) -> None:
    c, s = np.cos(one), np.sin(one)
    rows = np.array([c, s, 0.0])
    columns = np.cos(other) * np.array([-s, c, 0.0]) + np.sin(other) * np.array([0.0, 0, 1])
    oblique = tuple(np.concatenate([rows, columns]).tolist())
    members = [
        member(place, height=2.5 * place, number=99 - place, orientation=oblique)
        for place in order
    ]
    assert [found.scan for found in in_order(members)] == list(range(12))


@given(st.permutations(range(8)))
def test_images_at_one_place_stand_by_their_number(order: list[int]) -> None:
    members = [
        member(place, height=float(place // 4), number=10 - place if place < 4 else place)
        for place in order
    ]
    assert [found.scan for found in in_order(members)] == [3, 2, 1, 0, 4, 5, 6, 7]


def test_images_that_are_not_parallel_stand_by_their_number() -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    members = [
        member(1, height=0.0, number=3),
        member(2, height=9.0, number=1),
        member(3, height=4.0, number=2, orientation=sagittal),
    ]
    assert [found.scan for found in in_order(members)] == [2, 3, 1]


def test_an_orientation_that_is_none_is_not_used() -> None:
    flat = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    members = [
        member(1, height=0.0, number=2, orientation=flat),
        member(2, height=1.0, number=1, orientation=flat),
    ]
    assert [found.scan for found in in_order(members)] == [2, 1]


def test_series_stand_by_their_number_those_without_one_last() -> None:
    members = [
        member(1, series="a", series_number=None),
        member(2, series="b", series_number=7),
        member(3, series="c", series_number=2),
    ]
    assert [found.scan for found in in_order(members)] == [3, 2, 1]


def series(modality: str, count: int, *, start: int = 0) -> ListedSeries:
    digests = tuple(f"{number:064x}" for number in range(start, start + count))
    return ListedSeries(modality=modality, protocol=None, instances=digests)


def test_of_a_study_all_series_that_match_are_read_or_the_largest() -> None:
    study = Manifest(
        unit=Unit.STUDY,
        series=(series("CT", 3), series("PT", 9, start=10), series("CT", 5, start=20)),
    )
    every, refusal = study.selected(Selection(modalities=("CT",)))
    assert refusal is None
    assert [int(digest, 16) for digest in every] == [0, 1, 2, 20, 21, 22, 23, 24]
    one, _ = study.selected(Selection(modalities=("CT",), series=SeriesChoice.LARGEST))
    assert [int(digest, 16) for digest in one] == [20, 21, 22, 23, 24]
    none, refusal = study.selected(Selection(modalities=("MR",)))
    assert none == ()
    assert refusal is not None
    assert refusal.startswith("no series of it: ")
