from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.embedding.aggregation import aggregated, aggregated_probabilities
from registry.bundles.heads import Task, TaskKind
from registry.bundles.scan_units import Aggregate

ONE_OF = Task(
    name="finding", kind=TaskKind.MULTI_CLASS, classes=("yes", "no", "unsure"), positive="yes"
)
EACH = Task(name="findings", kind=TaskKind.MULTI_LABEL, classes=("nodule", "effusion"))


@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_rows_are_aggregated_as_one_by_one(counts: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(sum(counts), 3)).astype(np.float32)
    parts = np.split(rows, np.cumsum(counts)[:-1])
    means = aggregated(rows, counts, Aggregate.MEAN)
    assert means.dtype == np.float32
    assert means == pytest.approx(np.stack([part.mean(axis=0) for part in parts]), abs=1e-6)
    highest = aggregated(rows, counts, Aggregate.MAX)
    assert np.array_equal(highest, np.stack([part.max(axis=0) for part in parts]))


def test_the_maximum_of_classes_of_which_one_holds_is_that_of_the_likeliest_instance() -> None:
    rows = np.array(
        [[0.1, 0.9, 0.0], [0.6, 0.1, 0.3], [0.5, 0.0, 0.5], [0.2, 0.8, 0.0]], dtype=np.float32
    )
    found = aggregated_probabilities({"finding": rows}, [ONE_OF], [3, 1], Aggregate.MAX)
    assert np.array_equal(found["finding"], rows[[1, 3]])


def test_the_maximum_of_classes_that_hold_by_themselves_is_that_of_each() -> None:
    rows = np.array([[0.1, 0.9], [0.6, 0.2]], dtype=np.float32)
    found = aggregated_probabilities({"findings": rows}, [EACH], [2], Aggregate.MAX)
    assert found["findings"].tolist() == [pytest.approx([0.6, 0.9])]


def test_mean_probabilities_add_up_to_one() -> None:
    rows = np.array([[0.1, 0.9, 0.0], [0.6, 0.1, 0.3]], dtype=np.float32)
    found = aggregated_probabilities({"finding": rows}, [ONE_OF], [2], Aggregate.MEAN)
    assert found["finding"].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("counts", [[], [1], [0, 2], [3]])
def test_counts_that_are_not_those_of_the_rows_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="2 rows are not"):
        aggregated(np.zeros((2, 3), dtype=np.float32), counts, Aggregate.MEAN)
