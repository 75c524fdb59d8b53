from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.proportions import proportion
from monitor.statistics.sampling.drawing import allocate, draw
from registry.errors import BadInputError, InsufficientDataError

STRATA = [0] * 23 + [1] * 11 + [2] * 7


def test_patients_are_drawn_as_often_as_their_stored_chance_says() -> None:
    counts = allocate([23, 11, 7], wanted=15, favour=[1.0, 2.0, 1.0], equal=6)
    times = 6_000
    gate, equal = np.zeros(41), np.zeros(41)
    chances = np.zeros(41)
    for seed in range(times):
        drawn = draw(STRATA, counts, reserve=[2, 2, 2], equal=6, seed=seed)
        for stratum in drawn.strata:
            gate[list(stratum.ordered[: stratum.drawn])] += 1
            equal[list(stratum.equal)] += 1
            members = [*stratum.ordered, *stratum.equal, *stratum.left]
            chances[members] = stratum.chance
    for seen, expected in ((gate, chances), (equal, np.full(41, 6 / 41))):
        spread = np.sqrt(expected * (1 - expected) / times)
        # 41 patients: at 4.2 standard errors one of them would stray in one of 1,000 suites.
        assert (np.abs(seen / times - expected) < 4.2 * spread).all()
    assert drawn.equal_chance == 6 / 41
    assert len(set(chances)) == 3


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_no_patient_stands_in_two_parts_and_none_is_lost(
    sizes: list[int], data: st.DataObject, seed: int
) -> None:
    equal = data.draw(st.integers(0, sum(sizes) // 2))
    wanted = data.draw(st.integers(0, sum(sizes) - equal))
    favour = [data.draw(st.floats(1.0, 3.0)) for _ in sizes]
    reserve = [data.draw(st.integers(0, 5)) for _ in sizes]
    try:
        counts = allocate(sizes, wanted=wanted, favour=favour, equal=equal)
    except InsufficientDataError:
        assume(False)  # rounding leaves less room than there are patients
    assert sum(counts) == wanted
    strata = [number for number, size in enumerate(sizes) for _ in range(size)]
    drawn = draw(strata, counts, reserve=reserve, equal=equal, seed=seed)
    members = [
        (number, patient)
        for number, stratum in enumerate(drawn.strata)
        for patient in (*stratum.ordered, *stratum.equal, *stratum.left)
    ]
    assert sorted(patient for _, patient in members) == list(range(sum(sizes)))
    assert all(strata[patient] == number for number, patient in members)
    assert sum(len(stratum.equal) for stratum in drawn.strata) == equal
    assert [stratum.drawn for stratum in drawn.strata] == counts
    assert all(
        len(s.ordered) - s.drawn <= kept for s, kept in zip(drawn.strata, reserve, strict=True)
    )
    again = draw(strata, counts, reserve=reserve, equal=equal, seed=seed)
    assert again == drawn


def test_chances_differ_by_no_more_than_asked() -> None:
    counts = allocate([600, 300, 100], wanted=300, favour=[1.0, 3.0, 1.0])
    chances = [count / size for count, size in zip(counts, (600, 300, 100), strict=True)]
    assert chances[1] / chances[0] == pytest.approx(3.0, rel=0.02)
    with pytest.raises(BadInputError, match="a factor from 1 to 3"):
        allocate([10, 10], wanted=5, favour=[1.0, 4.0])


def test_a_frame_that_is_too_small_says_how_many_it_holds() -> None:
    with pytest.raises(InsufficientDataError, match="need at least 50, got 40"):
        allocate([30, 10], wanted=45, favour=[1.0, 1.0], equal=5)


def test_weighted_estimates_of_a_draw_cover_the_truth_and_unweighted_ones_do_not() -> None:
    rng, times = np.random.default_rng(3), 300
    frame = 4_000
    truth = rng.random(frame) < 0.4
    score = np.where(truth, 1.0, -1.2) + rng.normal(size=frame)
    right = (score >= 0) == truth
    second = np.where(rng.random(frame) < 0.5 * np.exp(-np.abs(score)), ~right, right)
    near = np.abs(score) <= np.quantile(np.abs(score), 1 / 3)
    strata = np.where(near, 1, np.where(score >= 0, 2, 0))
    sizes = np.bincount(strata)
    counts = allocate(sizes.tolist(), wanted=500, favour=[1.0, 3.0, 1.0], equal=100)
    inside = np.zeros(3, dtype=int)
    for seed in range(times):
        drawn = draw(strata.tolist(), counts, reserve=[0, 0, 0], equal=100, seed=seed)
        chosen = np.array([p for s in drawn.strata for p in s.ordered[: s.drawn]])
        weights = np.concatenate([np.full(s.drawn, 1 / s.chance) for s in drawn.strata])
        ill = truth[chosen]
        weighed = proportion(right[chosen][ill], weights=weights[ill], level=0.95)
        naive = proportion(right[chosen][ill], level=0.95)
        pairs = paired_difference(
            right[chosen][ill], second[chosen][ill], weights=weights[ill], level=0.95
        )
        inside += (
            right[truth].mean() in weighed.interval,
            (second[truth].mean() - right[truth].mean()) in pairs.interval,
            right[truth].mean() in naive.interval,
        )
    assert inside[:2].min() >= 0.93 * times, inside / times
    assert inside[2] < 0.5 * times, inside / times
