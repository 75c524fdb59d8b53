"""What each pixel measure answers to, against images of which the answer is known."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from monitor.imaging.pixel_measures import MEASURES, pixel_measures
from registry.errors import BadInputError

SIDE = 96
Images = npt.NDArray[np.float64]


def measured(name: str, *images: Images) -> npt.NDArray[np.float64]:
    return pixel_measures(np.stack(images))[:, list(MEASURES).index(name)]


def smooth(seed: int = 0) -> Images:
    """A smooth picture in [0.2, 0.8]."""
    blurred = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 8)
    scaled = (blurred - blurred.min()) / (blurred.max() - blurred.min())
    return 0.2 + 0.6 * scaled


def wave(frequency: float, *, axis: int = 1) -> Images:
    """A sine of so many half-waves a pixel (1: the highest that pixels can hold)."""
    line = 0.5 + 0.3 * np.sin(np.pi * frequency * np.arange(SIDE) + 0.3)
    return np.broadcast_to(line if axis == 1 else line[:, None], (SIDE, SIDE)).copy()


def test_one_row_an_image_and_one_column_a_measure() -> None:
    assert pixel_measures(np.zeros((3, 32, 48))).shape == (3, len(MEASURES))
    assert pixel_measures(np.empty((0, 32, 48))).shape == (0, len(MEASURES))


def test_many_images_are_measured_as_one_by_one() -> None:
    images = np.random.default_rng(1).random((300, 16, 20))
    alone = np.concatenate([pixel_measures(one[None]) for one in images])
    np.testing.assert_allclose(pixel_measures(images), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("deviation", [0.01, 0.03])
def test_noise_is_the_deviation_of_what_was_added(deviation: float) -> None:
    added = deviation * np.random.default_rng(2).standard_normal((SIDE, SIDE))
    assert np.exp(measured("noise", smooth() + added)[0]) == pytest.approx(deviation, rel=0.05)


def test_a_ramp_and_a_straight_edge_are_no_noise() -> None:
    ramp = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
    edge = (ramp > 0.5).astype(float)
    assert np.exp(measured("noise", ramp, edge)).max() < 1e-6


def test_sharpness_is_the_energy_of_differences_over_the_variance() -> None:
    image = smooth()
    energy = np.mean((image[1:] - image[:-1]) ** 2) + np.mean(
        (image[:, 1:] - image[:, :-1]) ** 2
    )
    assert np.exp(measured("sharpness", image)[0]) == pytest.approx(
        energy / image.var(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("frequency", "fine", "middle"), [(0.75, 1.0, 0.0), (0.3, 0.0, 1.0), (0.0625, 0.0, 0.0)]
)
def test_a_wave_is_detail_of_its_own_frequency(
    frequency: float, fine: float, middle: float
) -> None:
    # The taper gives the middle of the image more say: a fifth is what it may change.
    image = wave(frequency)
    assert np.exp(measured("fine detail", image)[0]) == pytest.approx(fine, abs=0.2)
    assert np.exp(measured("middle detail", image)[0]) == pytest.approx(middle, abs=0.2)


def test_blockiness_rises_with_the_compression_of_jpeg() -> None:
    grain = 0.05 * np.random.default_rng(3).standard_normal((SIDE, SIDE))
    image = np.clip(smooth() + grain, 0, 1)
    versions = [image]
    for quality in (60, 20, 5):
        stored = io.BytesIO()
        Image.fromarray((image * 255).astype(np.uint8)).save(stored, "JPEG", quality=quality)
        versions.append(np.asarray(Image.open(stored)) / 255)
    blockiness = measured("blockiness", *versions)
    assert abs(blockiness[0]) < 0.2
    assert np.all(np.diff(blockiness) > 0)


def test_blocks_that_are_shifted_are_none() -> None:
    blocks = np.kron(np.random.default_rng(4).random((12, 12)), np.ones((8, 8)))
    straight, shifted = measured("blockiness", blocks, np.roll(blocks, (4, 4), (0, 1)))
    assert straight > 10
    assert shifted < 0


def test_stripes_stand_out_in_either_direction() -> None:
    base = smooth() + 0.01 * np.random.default_rng(5).standard_normal((SIDE, SIDE))
    plain, *striped = measured(
        "stripes",
        *(
            np.clip(base + 0.03 * (wave(0.5, axis=a) - 0.5), 0, 1) if a >= 0 else base
            for a in (-1, 0, 1)
        ),
    )
    assert min(striped) > plain + 1.0


def test_gray_levels_count_different_values() -> None:
    image = np.random.default_rng(6).integers(0, 10, (SIDE, SIDE)) / 9
    assert np.exp(measured("gray levels", image)[0]) == pytest.approx(10)


def test_shares_and_quantiles_are_those_of_the_values() -> None:
    image = np.random.default_rng(7).beta(0.3, 0.3, (SIDE, SIDE))
    (row,) = pixel_measures(image[None])
    found = dict(zip(MEASURES, row, strict=True))
    assert found["black share"] == np.mean(image <= 0.01)
    assert found["white share"] == np.mean(image >= 0.99)
    assert found["contrast"] == pytest.approx(np.log(image.std()), abs=1e-6)
    for name, share in (
        ("5 % gray value", 0.05),
        ("median gray value", 0.5),
        ("95 % gray value", 0.95),
    ):
        assert found[name] == pytest.approx(np.quantile(image, share))


def test_a_black_frame_lowers_the_border() -> None:
    image = np.full((SIDE, SIDE), 0.6)
    framed = image.copy()
    framed[:5], framed[-5:], framed[:, :5], framed[:, -5:] = 0, 0, 0, 0
    plain, dark = measured("border", image, framed)
    assert plain == pytest.approx(0, abs=1e-12)
    assert dark == pytest.approx(-framed.mean(), abs=1e-12)


def test_mirroring_turns_left_against_right_about() -> None:
    image = smooth()
    one, other = measured("left against right", image, image[:, ::-1])
    assert one == pytest.approx(-other)
    assert one == pytest.approx(image[:, :48].mean() - image[:, 48:].mean())
    top, bottom = measured("top against bottom", image, image[::-1])
    assert top == pytest.approx(-bottom)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 32)), "shape"),
        (np.zeros((4, 32, 32), dtype=np.int64), "floating"),
        (np.zeros((4, 8, 32)), "too small"),
        (np.full((4, 32, 32), 1.5), "black to white"),
        (np.full((4, 32, 32), np.nan), "black to white"),
    ],
)
def test_what_is_no_shown_image_is_refused_with_a_way_out(images: Images, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        pixel_measures(images)


PARTS = [name for name in MEASURES if name.startswith("part ")]
OF_THE_MIDDLE = [name for name in MEASURES if name.endswith(", middle")]


def columns(names: list[str], *images: Images) -> npt.NDArray[np.float64]:
    return pixel_measures(np.stack(images))[:, [list(MEASURES).index(name) for name in names]]


def test_parts_are_mean_ranks_row_by_row() -> None:
    image = np.full((SIDE, SIDE), 0.25)
    image[:24, 24:48] = 0.75
    (parts,) = columns(PARTS, image)
    # A sixteenth is brighter than all others, which share the places below it.
    expected = np.full(16, 15 / 32)
    expected[1] = 31 / 32
    np.testing.assert_allclose(parts, expected)


def test_no_rising_tone_curve_moves_parts() -> None:
    image = np.rint(smooth() * 200) / 200
    plain, gamma, window = columns(PARTS, image, image**1.7, np.clip(1.4 * image - 0.05, 0, 1))
    np.testing.assert_allclose(gamma, plain, atol=1e-3)
    np.testing.assert_allclose(window, plain, atol=0.02)
    (inverted,) = columns(PARTS, 1 - image)
    np.testing.assert_allclose(inverted, 1 - plain, atol=1e-12)


def test_mirroring_turns_parts_about() -> None:
    plain, mirrored = columns(PARTS, smooth(), smooth()[:, ::-1])
    np.testing.assert_allclose(mirrored.reshape(4, 4), plain.reshape(4, 4)[:, ::-1], atol=1e-12)


def test_what_covers_the_borders_leaves_the_middle() -> None:
    image = smooth()
    covered = image.copy()
    covered[:20], covered[-20:], covered[:, :20] = 0, 1, 0.5
    plain, framed = columns(OF_THE_MIDDLE, image, covered)
    np.testing.assert_array_equal(plain, framed)
    (alone,) = columns(
        [name.removesuffix(", middle") for name in OF_THE_MIDDLE], image[24:72, 24:72]
    )
    np.testing.assert_allclose(plain, alone)


def test_least_noise_is_that_of_the_quietest_parts() -> None:
    image = smooth()
    noisy = image.copy()
    noisy[:48] += 0.05 * np.random.default_rng(8).standard_normal((48, SIDE))
    plain, half, whole = measured(
        "least noise",
        image,
        np.clip(noisy, 0, 1),
        np.clip(image + 0.02 * np.random.default_rng(9).standard_normal(image.shape), 0, 1),
    )
    assert half == pytest.approx(plain, abs=0.5)
    assert whole > plain + 2.0


def test_noise_of_bright_parts_says_where_the_noise_is() -> None:
    ramp = np.tile(np.linspace(0.2, 0.8, SIDE), (SIDE, 1))
    noise = 0.01 * np.random.default_rng(10).standard_normal(ramp.shape)
    even, bright, dark = measured(
        "noise of bright parts",
        ramp + noise,
        ramp + noise * ramp / 0.5,
        ramp + noise * (1 - ramp) / 0.5,
    )
    assert even == pytest.approx(0, abs=0.1)
    assert bright > 0.5
    assert dark < -0.5


def test_direction_is_down_over_across() -> None:
    across, down = measured("direction", wave(0.3, axis=1), wave(0.3, axis=0))
    assert across < -10
    assert down == pytest.approx(-across)


def test_the_median_has_a_place_between_the_ends() -> None:
    image = np.random.default_rng(11).random((SIDE, SIDE))
    even, dark = measured("place of the median", image, image**2)
    assert even == pytest.approx(0.5, abs=0.02)
    assert dark == pytest.approx(0.25 / 0.9, abs=0.03)
    (half,) = measured("range of the middle half", image)
    assert half == pytest.approx(0.5 / 0.9, abs=0.02)
