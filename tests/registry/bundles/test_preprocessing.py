from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.bundles.preprocessing import (
    DicomWindow,
    Fit,
    MeanOfFrames,
    MiddleFrame,
    PercentileWindow,
    Preprocessing,
    Resample,
    Unit,
    read_preprocessing,
    write_preprocessing,
)
from registry.bundles.scan_units import (
    Aggregate,
    Choose,
    Reading,
    Selection,
    SeriesChoice,
)
from registry.errors import BundleError

finite = st.floats(min_value=-100, max_value=100, allow_nan=False)
positive = st.floats(min_value=1e-3, max_value=100)
sides = st.integers(min_value=8, max_value=4096)
windows = st.one_of(
    st.just(DicomWindow()),
    st.tuples(st.floats(0, 49), st.floats(50, 100)).map(
        lambda ends: PercentileWindow(low=ends[0], high=ends[1])
    ),
)
readings = st.builds(
    Reading,
    select=st.builds(
        Selection,
        modalities=st.lists(st.sampled_from(("CT", "MR"))).map(tuple),
        least_instances=st.integers(1, 500),
        protocol_words=st.lists(st.sampled_from(("CHEST", "head"))).map(tuple),
        series=st.sampled_from(SeriesChoice),
    ),
    choose=st.sampled_from(Choose),
    at_most=st.integers(1, 64),
    embedding=st.sampled_from(Aggregate),
    probabilities=st.sampled_from(Aggregate),
    settle_seconds=st.integers(1, 3600),
    longest_wait_hours=st.floats(1, 300),
)
of_instances = st.builds(
    Preprocessing,
    unit=st.just(Unit.INSTANCE),
    window=windows,
    size=st.tuples(sides, sides),
    mean=st.tuples(finite, finite, finite),
    std=st.tuples(positive, positive, positive),
    fit=st.sampled_from(Fit),
    resample=st.sampled_from(Resample),
    wavelet_oversampling=st.one_of(st.none(), st.integers(1, 8)),
    frames=st.one_of(
        st.none(),
        st.just(MiddleFrame()),
        st.integers(1, 64).map(lambda most: MeanOfFrames(most=most)),
    ),
)
declarations = st.one_of(
    of_instances,
    st.builds(
        lambda declaration, unit, reading: replace(
            declaration, unit=unit, reading=reading, frames=None
        ),
        of_instances,
        st.sampled_from((Unit.SERIES, Unit.STUDY)),
        readings,
    ),
)


@given(declaration=declarations)
def test_a_declaration_survives_its_json(declaration: Preprocessing) -> None:
    text = json.dumps(declaration.to_json())
    assert Preprocessing.from_json(text) == declaration
    assert Preprocessing.from_json(text).digest == declaration.digest


def test_a_declaration_survives_its_file(preprocessing: Preprocessing, tmp_path: Path) -> None:
    write_preprocessing(tmp_path / "preprocessing.json", preprocessing)
    assert read_preprocessing(tmp_path / "preprocessing.json") == preprocessing


def test_the_digest_ignores_white_space_and_the_order_of_keys(
    preprocessing: Preprocessing,
) -> None:
    reordered = dict(reversed(preprocessing.to_json().items()))
    text = json.dumps(reordered, indent=7)
    assert Preprocessing.from_json(text).digest == preprocessing.digest


@pytest.mark.parametrize(
    "change",
    [
        {"unit": Unit.SERIES, "reading": Reading()},
        {"window": PercentileWindow(low=0.5, high=99.5)},
        {"size": (32, 64)},
        {"mean": (0.5, 0.456, 0.406)},
        {"std": (0.5, 0.224, 0.225)},
        {"fit": Fit.STRETCH},
        {"resample": Resample.BOX},
        {"wavelet_oversampling": 2},
        {"frames": MiddleFrame()},
        {"frames": MeanOfFrames(most=8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_declaration_is_part_of_the_digest(
    change: dict[str, object], preprocessing: Preprocessing
) -> None:
    assert replace(preprocessing, **change).digest != preprocessing.digest  # type: ignore[arg-type]


def test_bundles_from_before_a_part_could_be_declared_keep_their_digest(
    preprocessing: Preprocessing,
) -> None:
    declaration = replace(preprocessing, size=(64, 64))
    assert not {"wavelet_oversampling", "frames"} & set(declaration.to_json())
    assert declaration.digest == (
        "2ce11e4d4acab9da495d7b43d90aaa2c0bb9e291b870ba7941a19ff3a339e069"
    )


def test_an_unknown_key_is_named(preprocessing: Preprocessing) -> None:
    text = json.dumps(preprocessing.to_json() | {"crop": 3})
    with pytest.raises(BundleError, match="'crop'"):
        Preprocessing.from_json(text)


def test_a_missing_key_is_named(preprocessing: Preprocessing) -> None:
    for key in preprocessing.to_json():
        rest = {name: value for name, value in preprocessing.to_json().items() if name != key}
        with pytest.raises(BundleError, match=f"lacks '{key}'"):
            Preprocessing.from_json(json.dumps(rest))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pipeline": 2}, "pipeline 2 is not the one"),
        ({"unit": "patient"}, "'unit' must be one of instance, series, study"),
        ({"window": {"kind": "sigmoid"}}, "'kind' must be one of dicom, percentile"),
        ({"window": {"kind": "dicom", "low": 1}}, "'low'"),
        ({"window": {"kind": "percentile", "low": 99, "high": 1}}, r"\[99.0, 1.0\]"),
        ({"window": {"kind": "percentile", "low": 0, "high": 101}}, "101"),
        ({"size": [32]}, "'size' must be a list of 2"),
        ({"size": [32, 0]}, r"size \[32, 0\]"),
        ({"size": [32, 100000]}, "100000"),
        ({"size": [32.5, 32]}, "whole numbers"),
        ({"mean": [0, 0]}, "'mean' must be a list of 3"),
        ({"std": [1, 1, 0]}, "must be above 0"),
        ({"std": [1, 1, "1"]}, "'std' must be a list of 3 finite numbers"),
        ({"wavelet_oversampling": 0}, "wavelet_oversampling 0 must lie between 1 and 8"),
        ({"frames": {"kind": "first"}}, "'kind' must be one of middle, mean"),
        ({"frames": {"kind": "middle", "most": 2}}, "'most'"),
        ({"frames": {"kind": "mean", "most": 0}}, "at most 0 is not of 1 to 64"),
        ({"frames": {"kind": "mean", "most": 65}}, "65"),
        ({"wavelet_oversampling": 9}, "wavelet_oversampling 9"),
        ({"wavelet_oversampling": None}, "'wavelet_oversampling' must be a whole number"),
    ],
)
def test_an_impossible_value_is_named(
    change: dict[str, object], says: str, preprocessing: Preprocessing
) -> None:
    with pytest.raises(BundleError, match=says):
        Preprocessing.from_json(json.dumps(preprocessing.to_json() | change))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
@settings(max_examples=40)
def test_any_other_json_is_a_clear_error(value: object) -> None:
    with pytest.raises(BundleError):
        Preprocessing.from_json(json.dumps(value))


def test_black_and_white_become_the_ends_of_the_normalised_range(
    preprocessing: Preprocessing,
) -> None:
    assert preprocessing.lowest == pytest.approx((-2.1179, -2.0357, -1.8044), abs=1e-4)
    assert preprocessing.highest == pytest.approx((2.2489, 2.4286, 2.6400), abs=1e-4)


@pytest.mark.parametrize("unit", [Unit.SERIES, Unit.STUDY])
def test_a_unit_of_several_instances_says_how_they_are_read(
    preprocessing: Preprocessing, unit: Unit
) -> None:
    with pytest.raises(BundleError, match=f"unit '{unit.value}' takes a section `reading`"):
        replace(preprocessing, unit=unit)
    with pytest.raises(BundleError, match="for units of several instances"):
        replace(preprocessing, reading=Reading())
    with pytest.raises(BundleError, match="declare `frames` as middle"):
        replace(preprocessing, unit=unit, reading=Reading(), frames=MeanOfFrames(most=4))
    replace(preprocessing, unit=unit, reading=Reading(), frames=MiddleFrame())


def test_of_a_reading_everything_may_be_left_out(preprocessing: Preprocessing) -> None:
    document = {**preprocessing.to_json(), "unit": "series", "reading": {}}
    assert Preprocessing.from_json(json.dumps(document)).reading == Reading()
    document["reading"] = {"instances": {"choose": "middle"}, "settle_seconds": 30}
    reading = Preprocessing.from_json(json.dumps(document)).reading
    assert reading == Reading(choose=Choose.MIDDLE, settle_seconds=30)


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        ({"settle": 30}, "settle"),
        ({"instances": {"at_most": 65}}, "65"),
        ({"instances": {"choose": "best"}}, "middle, evenly, all"),
        ({"select": {"least_instances": 0}}, "least_instances 0"),
        ({"select": {"modalities": ["ct"]}}, "capitals"),
        ({"aggregate": {"embedding": "median"}}, "mean, max"),
        ({"settle_seconds": 0}, "settle_seconds 0"),
        ({"settle_seconds": 7200, "longest_wait_hours": 1.0}, "longest_wait_hours 1.0"),
    ],
)
def test_an_impossible_reading_is_refused_by_name(
    preprocessing: Preprocessing, reading: dict[str, object], said: str
) -> None:
    document = {**preprocessing.to_json(), "unit": "series", "reading": reading}
    with pytest.raises(BundleError, match=said):
        Preprocessing.from_json(json.dumps(document))
