import numpy as np
import pytest

from registry.bundles.preprocessing import DicomWindow, Preprocessing, Unit
from retrain.acquisition_changes import CHANGES, NOISE, changed

PREPROCESSING = Preprocessing(
    unit=Unit.INSTANCE,
    window=DicomWindow(),
    size=(32, 32),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)


def _gray(pixels: np.ndarray) -> np.ndarray:
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None]
        for values in (PREPROCESSING.mean, PREPROCESSING.std)
    )
    return pixels * std + mean


@pytest.fixture
def pixels() -> np.ndarray:
    rng = np.random.default_rng(0)
    plane = np.cumsum(np.cumsum(rng.normal(size=(2, 1, 32, 32)), axis=3), axis=2)
    gray = (plane - plane.min()) / (plane.max() - plane.min())
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None]
        for values in (PREPROCESSING.mean, PREPROCESSING.std)
    )
    return ((np.repeat(gray, 3, axis=1) - mean) / std).astype(np.float32)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_small_stays_gray_and_is_the_same_every_time(name: str, pixels) -> None:
    after = changed(pixels, PREPROCESSING, by=name)
    assert after.shape == pixels.shape
    assert after.dtype == np.float32
    assert np.array_equal(after, changed(pixels, PREPROCESSING, by=name))
    before, shown = _gray(pixels), _gray(after)
    assert shown.min() >= -1e-6
    assert shown.max() <= 1 + 1e-6
    difference = np.sqrt(np.mean((shown - before) ** 2))
    assert 0.0 < difference < 0.15
    # Three channels that were alike stay alike.
    assert np.abs(shown - shown[:, :1]).max() < 1e-5


def test_each_change_does_what_its_name_says(pixels) -> None:
    before = _gray(pixels)
    after = {name: _gray(changed(pixels, PREPROCESSING, by=name)) for name in CHANGES}
    inside = (before > 0.05) & (before < 0.95)
    assert (after["a darker tone curve"][inside] < before[inside]).all()
    assert (after["a brighter tone curve"][inside] > before[inside]).all()
    assert np.std((after["noise"] - before)[inside]) == pytest.approx(NOISE, rel=0.1)
    assert np.abs(np.diff(after["blur"])).mean() < np.abs(np.diff(before)).mean()
    down, left = after["a shift by 1 pixel"], after["a shift by 2 pixels"]
    assert np.allclose(down[:, :, 1:, :], before[:, :, :-1, :], atol=1e-6)
    assert np.allclose(left[:, :, :, :-2], before[:, :, :, 2:], atol=1e-6)
    assert np.abs(after["JPEG compression"] - before).max() < 0.2
