from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.demo.acquisition import EXPOSURE_RATIO, NEW_SOFTWARE, OLD_SOFTWARE, Floats, Processing
from monitor.intake.codes import names_equipment


def ramp(side: int = 64) -> Floats:
    return np.tile(np.linspace(0, 1, side, dtype=np.float32), (side, 1))


def flat(value: float, side: int = 200) -> Floats:
    return np.full((side, side), value, dtype=np.float32)


def test_the_old_software_sends_what_the_source_holds() -> None:
    assert np.array_equal(OLD_SOFTWARE.render(ramp(), seed=1), ramp())


def test_the_update_is_deterministic_for_a_scan_and_differs_between_scans() -> None:
    first = NEW_SOFTWARE.render(ramp(), seed=1)
    assert np.array_equal(first, NEW_SOFTWARE.render(ramp(), seed=1))
    assert not np.array_equal(first, NEW_SOFTWARE.render(ramp(), seed=2))


def test_rendering_leaves_its_input_alone() -> None:
    image = ramp()
    NEW_SOFTWARE.render(image, seed=1)
    assert np.array_equal(image, ramp())


@given(
    noise=st.floats(0, 0.2),
    amount=st.floats(0, 5),
    radius=st.floats(0.3, 8),
    contrast=st.floats(0, 20, allow_subnormal=False),
)
def test_any_processing_stays_within_black_and_white(
    noise: float, amount: float, radius: float, contrast: float
) -> None:
    processing = Processing(
        version="1", noise=noise, edge_amount=amount, edge_radius=radius, contrast=contrast
    )
    image = processing.render(ramp(16), seed=3)
    assert image.dtype == np.float32
    assert image.shape == (16, 16)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_tone_curve_rises_and_keeps_black_gray_and_white() -> None:
    curve = Processing(version="1", contrast=6).render(ramp(65), seed=0)[0]
    assert (np.diff(curve) > 0).all()
    assert curve[[0, 32, 64]] == pytest.approx([0, 0.5, 1], abs=1e-6)
    middle, end = np.diff(curve)[31], np.diff(curve)[0]
    assert middle > 3 * end


def test_noise_has_the_stated_deviation_and_is_weaker_where_more_radiation_arrives() -> None:
    processing = Processing(version="1", noise=0.02)
    bright = processing.render(flat(0.9), seed=1).std()
    dark = processing.render(flat(0.1), seed=2).std()
    # Of 40,000 pixels, correlated over about three: the deviation is known to 1 %.
    assert bright == pytest.approx(0.02 * EXPOSURE_RATIO**-0.05, rel=0.03)
    assert dark / bright == pytest.approx(EXPOSURE_RATIO**-0.4, rel=0.03)


def test_edges_are_enhanced_and_flat_parts_are_not() -> None:
    step = np.where(np.arange(64) < 32, 0.4, 0.6).astype(np.float32)
    image = np.tile(step, (64, 1))
    enhanced = Processing(version="1", edge_amount=1).render(image, seed=0)[32]
    assert enhanced[0] == pytest.approx(0.4, abs=1e-6)
    assert enhanced[63] == pytest.approx(0.6, abs=1e-6)
    assert enhanced[32] - enhanced[31] > 1.5 * 0.2


def test_versions_are_told_apart_after_de_identification() -> None:
    assert OLD_SOFTWARE.version != NEW_SOFTWARE.version
    assert names_equipment(OLD_SOFTWARE.version)
    assert names_equipment(NEW_SOFTWARE.version)


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": ""},
        {"noise": -0.1},
        {"edge_amount": float("nan")},
        {"contrast": float("inf")},
        {"edge_radius": 0.0},
    ],
)
def test_impossible_processing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Processing(**{"version": "1", **wrong})  # type: ignore[arg-type]
