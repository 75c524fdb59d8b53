from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from burned_in import CAPTION, WHITE, adult, captioned
from dicom_instances import KEY, SITE, as_file, radiograph
from pydicom.dataset import Dataset

from monitor.imaging.images import Image
from monitor.intake import burned_in_text
from monitor.intake.burned_in_text import (
    TILE,
    Pixels,
    counted,
    holds_text,
    looks,
    require_engine,
    shades_of,
    tiles_of,
)
from monitor.intake.decoding import DecodingProcess
from monitor.intake.intake import Accepted, Prepared, Rejected, prepare_bytes
from monitor.intake.reasons import Reason
from registry.errors import SetupError


@pytest.fixture(scope="module")
def process() -> Iterator[DecodingProcess]:
    process = DecodingProcess(recognises_text=True)
    yield process
    process.close()


def prepared(ds: Dataset, process: DecodingProcess, *, denied: bool = False) -> Prepared:
    return prepare_bytes(
        as_file(ds), site=SITE, key=KEY, decoder=process, annotation_denied=denied
    )


@pytest.mark.slow
@pytest.mark.parametrize(("side", "height"), [(112, 8), (512, 12), (1408, 28)])
def test_a_name_and_a_date_in_real_pixels_are_refused_without_being_said(
    process: DecodingProcess, side: int, height: int
) -> None:
    pixels = captioned(adult(3, side), CAPTION, height=height)
    outcome = prepared(radiograph(pixels, BurnedInAnnotation="NO"), process)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.reason is Reason.TEXT_FOUND
    assert outcome.content is not None
    said = outcome.detail + repr(outcome)
    assert not any(word in said.upper() for word in ("DOE", "JANE", "1961"))


@pytest.mark.slow
@pytest.mark.parametrize("index", [3, 100])
def test_a_radiograph_without_text_or_with_a_marker_alone_is_taken(
    process: DecodingProcess, index: int
) -> None:
    pixels = adult(index, 512)
    marked = captioned(pixels, "R", height=40, at=(0.05, 0.1))
    assert isinstance(prepared(radiograph(pixels), process), Accepted)
    assert isinstance(prepared(radiograph(marked), process), Accepted)


def test_an_engine_that_fails_means_quarantine_unless_a_person_denies_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rapidocr.py").write_text('raise RuntimeError("DOE^JANE")')
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    process = DecodingProcess(recognises_text=True)
    outcome = prepared(radiograph(), process)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TEXT_NOT_LOOKED_FOR
    assert "RuntimeError" in outcome.detail
    assert "DOE" not in outcome.detail
    assert isinstance(prepared(radiograph(), process, denied=True), Accepted)
    process.close()


def test_a_process_that_dies_over_an_image_means_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rapidocr.py").write_text("import os; os.abort()")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    outcome = prepared(radiograph(), DecodingProcess(recognises_text=True))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TEXT_NOT_LOOKED_FOR


def test_the_setting_without_the_extra_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_engine()
    monkeypatch.setattr(burned_in_text, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match=r"driftward\[ocr\]"):
        require_engine()


@pytest.mark.parametrize(
    ("texts", "characters"),
    [
        (["R"], 0),
        (["ap erect", "PORTABLE"], 0),
        (["JS"], 2),
        (["L", "DOE JANE"], 7),
        (["12", "34"], 4),
        (["SUPINES"], 7),
    ],
)
def test_letters_and_digits_beyond_markers_are_counted(
    texts: list[str], characters: int
) -> None:
    assert counted(texts) == characters


@pytest.mark.parametrize(
    "shape", [(1, 1), (12, 10), (64, 3000), (736, 736), (921, 500), (2048, 1500), (9000, 9000)]
)
def test_squares_cover_an_image_and_are_no_more_than_is_said(shape: tuple[int, int]) -> None:
    shown = np.full(shape, 200, dtype=np.uint8)
    shown[-1, -1] = 0
    tiles = list(tiles_of(np.tril(shown)))
    assert all(tile.shape == (TILE, TILE) for tile in tiles)
    assert len(tiles) <= looks(*shape, frames=1) // 2
    bars = shown.copy()
    bars[:, ::2] = 0
    if bars.min() < bars.max():
        assert len(list(tiles_of(bars))) >= 1


def test_text_on_the_cut_between_squares_is_whole_in_one() -> None:
    shown = np.zeros((1408, 1408), dtype=np.uint8)
    shown[100:112, 680:720] = 255
    assert max(int((tile == 255).sum()) for tile in tiles_of(shown)) == 12 * 40


def test_a_shade_that_the_full_range_hides_is_shown_by_the_middle_of_the_values() -> None:
    values = np.random.default_rng(1).normal(1000, 5, size=(50, 50)).astype(np.float32)
    values[10:14, 10:30] = 1030
    values[0, 0] = 60_000
    full, middle = shades_of(Image(values=values))
    written = np.s_[10:14, 10:30]
    assert int(full[written].max()) - int(np.median(full)) <= 1
    assert int(middle[written].min()) - int(np.median(middle)) > 60


def test_of_many_frames_the_last_is_looked_at_and_one_text_is_enough() -> None:
    frames = np.zeros((9, 30, 40), dtype=np.uint16)
    frames[:, :, ::2] = 100
    frames[-1, 5:9, 5:9] = WHITE
    ds = radiograph(frames[0], NumberOfFrames=9)
    ds.PixelData = frames.tobytes()
    asked: list[Pixels] = []

    def read(tile: Pixels) -> list[tuple[str, float]]:
        asked.append(tile)
        return [("1961", 0.9)] if len(asked) == 4 else [("1961", 0.3), ("AB", 0.9)]

    assert holds_text(ds, read)
    assert len(asked) == 4
    assert holds_text(ds, lambda _: [("1961", 0.3), ("R", 0.99)]) is False
