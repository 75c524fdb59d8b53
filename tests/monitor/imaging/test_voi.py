from __future__ import annotations

import numpy as np
import pytest
from dicom_instances import gradient, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_windowing

from monitor.imaging.voi import VoiFunction, VoiTable, VoiWindow, ramp

VALUES = np.linspace(-2000, 6000, 801, dtype=np.float32).reshape(1, -1)


@pytest.mark.parametrize("function", list(VoiFunction))
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (40, 400), (100, 1.5), (-600, 1)])
def test_a_window_gives_what_pydicom_gives(
    function: VoiFunction, center: float, width: float
) -> None:
    ds = radiograph(
        gradient(),
        WindowCenter=str(center),
        WindowWidth=str(width),
        VOILUTFunction=function.value,
        BitsStored=16,
    )
    window = VoiWindow(center=center, width=width, function=function)
    with np.errstate(over="ignore"):  # pydicom's sigmoid overflows far from the center
        expected = apply_windowing(VALUES.astype(np.float64), ds) / (2**16 - 1)
    assert window.apply(VALUES) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("center", "width", "function"),
    [
        (0, 0.5, VoiFunction.LINEAR),
        (0, 0, VoiFunction.LINEAR_EXACT),
        (0, 0, VoiFunction.SIGMOID),
        (float("nan"), 10, VoiFunction.LINEAR),
        (0, float("inf"), VoiFunction.LINEAR),
        (2048, 1e-50, VoiFunction.SIGMOID),
        (0, 1e-40, VoiFunction.LINEAR_EXACT),
        (0, 1e300, VoiFunction.LINEAR),
        (-1e300, 10, VoiFunction.LINEAR),
    ],
)
def test_a_window_that_shows_nothing_cannot_be_made(
    center: float, width: float, function: VoiFunction
) -> None:
    with pytest.raises(ValueError, match="window"):
        VoiWindow(center=center, width=width, function=function)


def test_a_table_extends_its_first_and_last_entry() -> None:
    entries = np.array([10, 20, 65535], dtype=np.uint16)
    table = VoiTable(first=-1, bits=16, entries=entries)
    values = np.array([-50, -1, 0, 1, 50], dtype=np.float32)
    assert table.look_up(values).tolist() == [10, 10, 20, 65535, 65535]
    assert table.apply(values)[-1] == 1.0


def test_an_impossible_table_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="0 entries"):
        VoiTable(first=0, bits=16, entries=np.array([], dtype=np.uint16))
    with pytest.raises(ValueError, match="20 bits"):
        VoiTable(first=0, bits=20, entries=np.array([1], dtype=np.uint16))


def test_a_ramp_of_no_width_is_a_step() -> None:
    values = np.array([1, 2, 3], dtype=np.float32)
    assert ramp(values, 2, 2).tolist() == [0, 0, 1]


def test_a_ramp_too_steep_for_single_precision_is_a_step() -> None:
    values = np.array([0, 1e-44, 1e-40], dtype=np.float32)
    assert ramp(values, 0, 1e-44).tolist() == [0, 1, 1]


@settings(deadline=None, derandomize=True)
@given(
    center=st.floats(-1e5, 1e5) | st.floats(-1e30, 1e30),
    width=st.floats(1, 1e5) | st.floats(1, 1e30),
    function=st.sampled_from(VoiFunction),
)
def test_a_window_is_monotonic_and_stays_within_zero_and_one(
    center: float, width: float, function: VoiFunction
) -> None:
    shown = VoiWindow(center=center, width=width, function=function).apply(VALUES)
    assert shown.dtype == np.float32
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert (np.diff(shown[0]) >= 0).all()
