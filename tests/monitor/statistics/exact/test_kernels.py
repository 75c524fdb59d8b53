from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom, energy_distance, hypergeom
from threadpoolctl import threadpool_limits

from monitor.statistics.exact.kernels import (
    _gaussian,
    _negative_distance,
    energy_test,
    mmd_test,
)
from monitor.statistics.exact.pair_sums import MEMORY, Points, discrepancies
from monitor.statistics.exact.splits import Pooled, permuted_splits
from registry.errors import BadInputError, EmbeddingsError, SetupError

TESTS = [mmd_test, energy_test]
SIGMA = 1.5

Kernel = Callable[[np.ndarray, np.ndarray], float]


def gaussian(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.exp(-np.sum((x - y) ** 2) / (2 * SIGMA**2)))


def negative_distance(x: np.ndarray, y: np.ndarray) -> float:
    return -float(np.sqrt(np.sum((x - y) ** 2)))


def double_sums(
    k: Kernel,
    window: np.ndarray,
    reference: np.ndarray,
    window_names: np.ndarray,
    reference_names: np.ndarray,
) -> float:
    """Gretton et al. (2012), eq. 3, over pairs of scans of different patients."""
    within = []
    for scans, names in ((window, window_names), (reference, reference_names)):
        pairs = [
            (i, j) for i, j in product(range(len(scans)), repeat=2) if names[i] != names[j]
        ]
        within.append(np.mean([k(scans[i], scans[j]) for i, j in pairs]))
    across = np.mean([k(x, y) for x, y in product(window, reference)])
    return float(within[0] + within[1] - 2 * across)


def two_groups(
    before: int, after: int, *, dimension: int = 4, shift: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(before, dimension)).astype(np.float32),
        (rng.normal(size=(after, dimension)) + shift).astype(np.float32),
    )


def all_discrepancies(
    kernel: str,
    pooled: Pooled,
    splits: np.ndarray,
    *,
    device: str | None = None,
    memory: int = MEMORY,
    mean: float = 0.4,
) -> np.ndarray:
    """D of every split, in embedding units."""
    points = Points.of(pooled, rng=np.random.default_rng(1))
    kernels = {
        "gaussian": partial(_gaussian, gain=(points.unit / SIGMA) ** 2, mean=mean),
        "negative_distance": partial(_negative_distance, mean=-mean),
    }
    found = discrepancies(
        pooled, points, splits, kernel=kernels[kernel], device=device, memory=memory
    )
    return found if kernel == "gaussian" else found * points.unit


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("scans_each", [1, 3])
@pytest.mark.parametrize("k", [gaussian, negative_distance])
def test_every_split_agrees_with_the_double_sums_in_the_paper(
    k: Kernel, scans_each: int, device: str | None
) -> None:
    reference, window = two_groups(9, 6, shift=0.7)
    # Patients of one, two and three scans, in no order.
    names = (np.arange(9) % 5, 10 + np.arange(6) % 4) if scans_each > 1 else (None, None)
    pooled = Pooled.of(reference, window, *names)
    splits = permuted_splits(pooled.window, permutations=20, rng=np.random.default_rng(5))
    found = all_discrepancies(k.__name__, pooled, splits, device=device)
    codes, points = pooled.patients.codes, pooled.embeddings.astype(np.float64)
    inside = splits[codes]
    assert len(set(inside.sum(axis=0))) > 1 or scans_each == 1
    for column, one in zip(inside.T, found, strict=True):
        expected = double_sums(
            k, points[column], points[~column], codes[column], codes[~column]
        )
        assert one == pytest.approx(expected, abs=1e-6)


def test_mmd_and_bandwidth_are_those_of_the_observed_groups() -> None:
    reference, window = two_groups(12, 7, shift=0.5)
    scans = (window, reference, np.arange(7), np.arange(12))
    found = mmd_test(reference, window, bandwidth=SIGMA, permutations=9)
    assert found.bandwidth == pytest.approx(SIGMA)
    assert found.statistic == pytest.approx(double_sums(gaussian, *scans), abs=1e-6)
    by_median = mmd_test(reference, window, permutations=9)
    median = np.median(pdist(np.concatenate([reference, window])))
    assert by_median.bandwidth == pytest.approx(median, rel=1e-5)
    same = mmd_test(reference, window, bandwidth=by_median.bandwidth, permutations=9)
    assert by_median.statistic == pytest.approx(same.statistic, abs=1e-7)


def test_the_energy_distance_is_scipys_less_its_bias() -> None:
    rng = np.random.default_rng(2)
    u, v = rng.normal(size=40), rng.gamma(2.0, size=25)
    line = [np.stack([values, np.zeros(len(values))], axis=1) for values in (u, v)]
    found = energy_test(*line, permutations=9)
    bias = pdist(u[:, None]).mean() / 40 + pdist(v[:, None]).mean() / 25
    # On a line many pairs are closer than float32 products tell.
    assert found.statistic == pytest.approx(energy_distance(u, v) ** 2 - bias, abs=1e-5)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("kernel", ["gaussian", "negative_distance"])
def test_neither_memory_nor_device_changes_the_result(kernel: str, device: str | None) -> None:
    reference, window = two_groups(500, 101, dimension=16, seed=6)
    pooled = Pooled.of(reference, window, np.arange(500) // 3, 1000 + np.arange(101) // 7)
    splits = permuted_splits(pooled.window, permutations=30, rng=np.random.default_rng(0))
    whole = all_discrepancies(kernel, pooled, splits)
    for memory in (1, 60_000, 500_000, MEMORY):
        other = all_discrepancies(kernel, pooled, splits, device=device, memory=memory)
        assert other == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("kernel", ["gaussian", "negative_distance"])
def test_a_constant_in_the_kernel_leaves_no_trace(kernel: str) -> None:
    pooled = Pooled.of(*two_groups(60, 31), np.arange(60) // 2, 100 + np.arange(31) // 3)
    splits = permuted_splits(pooled.window, permutations=10, rng=np.random.default_rng(0))
    plain = all_discrepancies(kernel, pooled, splits, mean=0.0)
    assert all_discrepancies(kernel, pooled, splits, mean=1.0) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("test", TESTS)
def test_the_kernel_is_held_within_the_memory_granted(test: Callable) -> None:
    reference, window = two_groups(10_000, 1000)
    tracemalloc.start()
    try:
        test(reference, window, permutations=4, memory=2**20)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Whole, it takes 484 MB; the sample's pairs take 6, scans and indicators 3.
    assert held < 10e6


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("test", TESTS)
def test_bits_do_not_depend_on_the_threads_offered(
    test: Callable, device: str | None, torch_threads: Callable[[int], None]
) -> None:
    import torch

    groups = two_groups(700, 200, dimension=300, seed=8)
    found = []
    for threads in (1, 2, 3):
        torch_threads(threads)
        with threadpool_limits(limits=threads, user_api="blas"):
            found.append(test(*groups, permutations=40, device=device))
        assert torch.get_num_threads() == threads
    assert found[0] == found[1] == found[2]


def test_torchs_precision_is_plain_inside_and_restored(
    torch_threads: Callable[[int], None],
) -> None:
    import torch

    seen = []

    def watching(xp: object, block: object) -> None:
        seen.append((torch.backends.cuda.matmul.fp32_precision, torch.get_num_threads()))

    pooled = Pooled.of(*two_groups(5, 4))
    splits = pooled.window[:, None]
    before = torch.backends.cuda.matmul.fp32_precision
    torch_threads(2)
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        points = Points.of(pooled, rng=np.random.default_rng(0))
        discrepancies(pooled, points, splits, kernel=watching, device="cpu", memory=MEMORY)
        assert seen == [("ieee", 1)]
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.get_num_threads() == 2
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("test", TESTS)
def test_splits_that_tie_but_for_rounding_count(test: Callable, device: str | None) -> None:
    # Corners of a regular simplex, turned: all distances are the same, so all splits tie.
    rng = np.random.default_rng(9)
    turned = np.linalg.qr(rng.normal(size=(24, 24)))[0] + 3.0
    assert test(turned[:17], turned[17:], permutations=199, device=device).p_value == 1.0


@pytest.mark.parametrize(
    ("test", "k"), [(mmd_test, gaussian), (energy_test, negative_distance)]
)
def test_the_p_value_ranks_d_over_its_scale_among_all_splits(test: Callable, k: Kernel) -> None:
    # Patients of one to five scans, so that the scale matters to the rank.
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(9), [1, 5, 1, 1, 4, 1, 2, 1, 3])
    scans = (rng.normal(size=(9, 3))[names] + 0.7 * rng.normal(size=(19, 3))).astype(np.float32)
    ranked = []
    for chosen in combinations(range(9), 3):
        inside = np.isin(names, chosen)
        d = double_sums(k, scans[inside], scans[~inside], names[inside], names[~inside])
        ranked.append((d / (1 / inside.sum() + 1 / (~inside).sum()), d))
    statistics = np.array(ranked)
    by_scale, plain = np.mean(statistics >= statistics[:, None], axis=1).T
    # The split whose p-value the scale changes most.
    observed = int(np.argmax(np.abs(by_scale - plain)))
    assert abs(by_scale[observed] - plain[observed]) > 0.1
    inside = np.isin(names, list(combinations(range(9), 3))[observed])
    options = {"bandwidth": SIGMA} if test is mmd_test else {}
    found = test(
        scans[~inside],
        scans[inside],
        reference_patients=names[~inside],
        window_patients=names[inside],
        permutations=4000,
        **options,
    )
    expected = by_scale[observed]
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert found.p_value == pytest.approx(expected, abs=4 * error + 1e-3)


@pytest.mark.parametrize("observed", range(1, 4))
@pytest.mark.parametrize(
    ("test", "k"), [(mmd_test, gaussian), (energy_test, negative_distance)]
)
def test_splits_of_duplicates_tie(test: Callable, k: Kernel, observed: int) -> None:
    # Two values only, so that a split's statistic depends on how many of six a it holds.
    a, b = np.array([0.1, 0.7, -0.3]), np.array([1.3, 0.2, 0.9])

    def groups(count: int) -> tuple[np.ndarray, np.ndarray]:
        reference = [a] * (6 - count) + [b] * (1 + count)
        return np.array(reference), np.array([a] * count + [b] * (4 - count))

    statistics = []
    for count in range(5):
        reference, window = groups(count)
        statistics.append(double_sums(k, window, reference, np.arange(4), np.arange(7)))
    law = hypergeom(11, 6, 4).pmf(np.arange(5))
    expected = law[np.array(statistics) >= statistics[observed] - 1e-12].sum()
    options = {"bandwidth": SIGMA} if test is mmd_test else {}
    found = test(*groups(observed), permutations=4000, seed=1, **options)
    assert found.statistic == pytest.approx(statistics[observed], abs=1e-6)
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert found.p_value == pytest.approx(expected, abs=4 * error + 1e-3)


def test_duplicates_are_at_distance_zero() -> None:
    # Falling scales, so that rounding is at its worst for what a root makes of it.
    x = np.random.default_rng(4).normal(size=(40, 512)) / np.arange(1, 513)
    pooled = Pooled.of(x, x)
    points = Points.of(pooled, rng=np.random.default_rng(0))
    squared = points.sampled_squared_distances(np.random.default_rng(0))
    assert np.count_nonzero(squared == 0) == 40
    splits = permuted_splits(pooled.window, permutations=5, rng=np.random.default_rng(0))
    found = all_discrepancies("negative_distance", pooled, splits)
    inside = splits[pooled.patients.codes]
    for column, one in zip(inside.T, found, strict=True):
        groups = (pooled.embeddings[column], pooled.embeddings[~column])
        within = [pdist(group.astype(np.float64)).mean() for group in groups]
        across = cdist(*(group.astype(np.float64) for group in groups)).mean()
        assert one == pytest.approx(2 * across - within[0] - within[1], abs=1e-6)


@pytest.mark.parametrize("test", TESTS)
def test_a_common_offset_and_one_scan_far_away_drown_nothing(test: Callable) -> None:
    reference, window = two_groups(60, 30, shift=0.4)
    options = {"bandwidth": SIGMA} if test is mmd_test else {}
    plain = test(reference, window, permutations=99, **options)
    moved = test(reference + 100, window + 100, permutations=99, **options)
    assert moved.statistic == pytest.approx(plain.statistic, abs=1e-4)
    assert moved.p_value == plain.p_value
    if test is mmd_test:
        far = reference.copy()
        far[0] = 1e6
        found = test(far, window, permutations=99, bandwidth=SIGMA)
        scans = (window, far, np.arange(30), np.arange(60))
        assert found.statistic == pytest.approx(double_sums(gaussian, *scans), abs=1e-5)


@pytest.mark.parametrize("test", TESTS)
def test_p_values_are_uniform_without_a_shift_and_small_with_one(test: Callable) -> None:
    p_values = np.array(
        [
            test(*two_groups(14, 9, seed=seed), permutations=19, seed=seed).p_value
            for seed in range(400)
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        low, high = binom.interval(0.999, 400, level)
        assert low <= np.count_nonzero(p_values <= level + 1e-12) <= high
    shifted = [
        test(*two_groups(40, 20, shift=1.2, seed=seed), permutations=99).p_value
        for seed in range(20)
    ]
    assert shifted == [0.01] * 20


@pytest.mark.parametrize("test", TESTS)
def test_permuting_patients_holds_the_level_where_permuting_scans_rejects(
    test: Callable,
) -> None:
    rng = np.random.default_rng(12)
    by_patient, by_scan = [], []
    for seed in range(200):
        scans_of = rng.integers(1, 9, size=24)
        own = np.repeat(rng.normal(size=(24, 3)), scans_of, axis=0)
        names = np.repeat(np.arange(24), scans_of)
        scans = (own + 0.3 * rng.normal(size=own.shape)).astype(np.float32)
        before = names < 16
        groups = (scans[before], scans[~before])
        patients = {
            "reference_patients": names[before],
            "window_patients": names[~before],
        }
        by_patient.append(test(*groups, **patients, permutations=19, seed=seed).p_value)
        by_scan.append(test(*groups, permutations=19, seed=seed).p_value)
    low, high = binom.interval(0.999, 200, 0.05)
    assert low <= np.count_nonzero(np.array(by_patient) <= 0.05) <= high
    assert np.mean(np.array(by_scan) <= 0.05) > 0.4


@pytest.mark.parametrize("test", TESTS)
def test_results_repeat_by_seed(test: Callable) -> None:
    groups = two_groups(30, 12, shift=0.2)
    assert test(*groups, seed=3) == test(*groups, seed=3)
    assert test(*groups, seed=3).p_value != test(*groups, seed=4).p_value
    assert test(*groups, permutations=49).permutations == 49


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, 1e-9, float("nan"), float("inf")])
def test_bandwidths_that_tell_nothing_are_refused(bandwidth: float) -> None:
    with pytest.raises(BadInputError, match="bandwidth"):
        mmd_test(*two_groups(6, 5), bandwidth=bandwidth)


@pytest.mark.parametrize("test", TESTS)
def test_unusable_options_are_refused(test: Callable) -> None:
    groups = two_groups(6, 5)
    with pytest.raises(BadInputError, match="memory must be at least 1 byte, got 0"):
        test(*groups, memory=0)
    with pytest.raises(BadInputError, match="torch knows no device 'abacus'"):
        test(*groups, device="abacus")
    with pytest.raises(BadInputError, match="at least 1 permutation"):
        test(*groups, permutations=0)
    with pytest.raises(EmbeddingsError, match="overflow"):
        test(*(np.sign(group) * np.float32(3e38) for group in groups))


@pytest.mark.parametrize("test", TESTS)
def test_a_gpu_that_is_not_there_is_named(test: Callable) -> None:
    import torch

    if torch.cuda.is_available():
        found, plain = (test(*two_groups(90, 40), device=one) for one in ("cuda", None))
        assert found.statistic == pytest.approx(plain.statistic, abs=1e-6)
        assert found.p_value == plain.p_value
    else:
        with pytest.raises(SetupError, match="torch sees no GPU"):
            test(*two_groups(6, 5), device="cuda")
