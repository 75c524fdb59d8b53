from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.statistics.patients import Patients, chunks_of_patients, some_patients
from registry.errors import EmbeddingsError


def test_without_identifiers_each_scan_is_a_patient() -> None:
    patients = Patients.of(None, scans=3)
    assert patients.count == 3
    assert patients.scans.tolist() == [1, 1, 1]


@given(st.lists(st.sampled_from(["p", "q", "r", "s"]), min_size=1, max_size=30))
def test_sums_agree_with_a_loop_over_identifiers(identifiers: list[str]) -> None:
    values = np.arange(2 * len(identifiers), dtype=np.float32).reshape(-1, 2)
    sums = Patients.of(identifiers, scans=len(identifiers)).sums(values)
    for row, name in zip(sums, sorted(set(identifiers)), strict=True):
        own = [one == name for one in identifiers]
        assert row.tolist() == values[own].sum(axis=0).tolist()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_scans_that_are_patients_of_their_own_are_sums_in_the_order_of_identifiers(
    order: list[int],
) -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    names = [f"p{number}" for number in order]
    sums = Patients.of(names, scans=4).sums(values)
    assert sums.tolist() == values[np.argsort(order)].tolist()


def test_weights_run_from_every_scan_to_one_scan_of_a_patient() -> None:
    patients = Patients.of(["a", "a", "a", "b"], scans=4)
    assert patients.weights(0.0).tolist() == [1.0, 1.0]
    assert (patients.weights(1.0) * patients.scans).tolist() == [1.0, 1.0]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 15), st.integers(0, 9)
)
def test_chunks_hold_whole_patients_and_every_scan_once(
    counts: list[int], scans: int, seed: int
) -> None:
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    patients = Patients.of(codes, scans=len(codes))
    chunks = chunks_of_patients(patients, scans=scans)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(codes)))
    seen = [set(codes[chunk].tolist()) for chunk in chunks]
    assert sum(len(one) for one in seen) == len(counts)
    assert all(len(chunk) <= max(scans, *counts, 0) for chunk in chunks)


def test_some_patients_come_with_all_their_scans() -> None:
    codes = np.repeat(np.arange(50), 4)
    patients = Patients.of(codes, scans=200)
    rows = some_patients(patients, scans=40, rng=np.random.default_rng(0))
    assert len(rows) == 40
    assert patients.subset(rows).scans.tolist() == [4] * 10


@pytest.mark.parametrize(
    "identifiers", [["a", "b"], [["a"], ["b"], ["c"]], ["a", None, "b"], [0.5, 1.5, 2.5]]
)
def test_identifiers_that_do_not_fit_are_refused(identifiers: list[object]) -> None:
    with pytest.raises(EmbeddingsError, match="identifiers"):
        Patients.of(identifiers, scans=3)  # type: ignore[arg-type]
