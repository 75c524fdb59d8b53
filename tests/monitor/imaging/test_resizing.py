"""Resizing by strips, compared with Pillow's resize of the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dicom_instances import radiograph
from PIL import Image as PillowImage

from monitor.imaging.pixels import decode, rendered
from monitor.imaging.voi import ramp
from registry.bundles.preprocessing import (
    Fit,
    PercentileWindow,
    Preprocessing,
    Resample,
    Unit,
)

SHAPES = [(1024, 768), (701, 1203), (3000, 100), (100, 3000), (1500, 1000)]
FILTERS = {
    Resample.BOX: PillowImage.Resampling.BOX,
    Resample.BILINEAR: PillowImage.Resampling.BILINEAR,
    Resample.BICUBIC: PillowImage.Resampling.BICUBIC,
}


def samples_of(rows: int, columns: int) -> Any:
    rng = np.random.default_rng(rows)
    return rng.normal(2000, 400, (rows, columns)).clip(0, 4095).astype(np.uint16)


@pytest.mark.parametrize("resample", list(Resample))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("inverted", [False, True])
def test_strips_give_the_whole_image_s_resize_to_the_bit(
    resample: Resample, shape: tuple[int, int], inverted: bool
) -> None:
    samples = samples_of(*shape)
    ds = radiograph(
        samples,
        RescaleSlope="0.5",
        RescaleIntercept="-10",
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )
    ds.add_new("PixelPaddingValue", "US", int(samples[3, 5]))
    declared = Preprocessing(
        unit=Unit.INSTANCE,
        window=PercentileWindow(low=1, high=99),
        size=(96, 64),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        fit=Fit.STRETCH,
        resample=resample,
    )
    values = (samples.astype(np.float64) * 0.5 - 10).astype(np.float32)
    padding = samples == samples[3, 5]
    low, high = np.percentile(values[~padding], (1, 99))
    shown = ramp(values, float(low), float(high))
    shown = 1 - shown if inverted else shown
    shown[padding] = 0
    whole = PillowImage.fromarray(shown).resize((64, 96), FILTERS[resample])
    expected = np.clip(np.asarray(whole), 0, 1)
    assert np.array_equal(rendered(decode(ds), declared)[0], expected)


def test_a_large_image_of_the_declared_size_is_not_resized() -> None:
    samples = samples_of(600, 600)
    declared = Preprocessing(
        unit=Unit.INSTANCE,
        window=PercentileWindow(low=0, high=100),
        size=(600, 600),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    values = samples.astype(np.float32)
    expected = ramp(values, float(values.min()), float(values.max()))
    assert np.array_equal(rendered(decode(radiograph(samples)), declared)[0], expected)
