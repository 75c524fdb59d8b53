from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from registry.bundles.documents import write_json
from registry.bundles.heads import (
    Floats,
    Task,
    TaskKind,
    read_head_state,
    read_tasks,
    write_head_state,
    write_tasks,
)
from registry.errors import BundleError

logits_of_three = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(3)),
    elements=st.floats(-1000, 1000, width=32),
)
temperatures = st.floats(0.05, 20)


def task_of(kind: TaskKind, **changes: object) -> Task:
    values = {"name": "finding", "kind": kind, "classes": ("a", "b", "c")} | changes
    return Task(**values)  # type: ignore[arg-type]


@given(logits=logits_of_three, temperature=temperatures)
@settings(max_examples=50)
def test_multi_class_probabilities_are_scipys_softmax(
    logits: Floats, temperature: float
) -> None:
    found = task_of(TaskKind.MULTI_CLASS, temperature=temperature).probabilities(logits)
    expected = special.softmax(logits.astype(np.float64) / temperature, axis=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-7)


@given(logits=logits_of_three, temperature=temperatures)
@settings(max_examples=50)
def test_multi_label_probabilities_are_scipys_sigmoid(
    logits: Floats, temperature: float
) -> None:
    found = task_of(TaskKind.MULTI_LABEL, temperature=temperature).probabilities(logits)
    expected = special.expit(logits.astype(np.float64) / temperature)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_logits_of_another_number_of_classes_are_refused() -> None:
    with pytest.raises(BundleError, match=r"logits of shape \[2, 2\] for 3 classes"):
        task_of(TaskKind.MULTI_CLASS).probabilities(np.zeros((2, 2), np.float32))


def test_the_threshold_itself_counts_as_called() -> None:
    task = task_of(TaskKind.MULTI_CLASS, positive="b", threshold=0.4)
    probabilities = np.array([[0.6, 0.4, 0], [0.61, 0.39, 0]], np.float32)
    assert task.calls(probabilities).tolist() == [True, False]
    by_label = task_of(TaskKind.MULTI_LABEL, threshold=0.4)
    assert by_label.calls(probabilities).tolist() == [
        [True, True, False],
        [True, False, False],
    ]


def test_a_task_without_a_threshold_calls_nothing() -> None:
    with pytest.raises(BundleError, match="finding has no threshold"):
        task_of(TaskKind.MULTI_CLASS).calls(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Find It"}, "'Find It'"),
        ({"name": ""}, "''"),
        ({"classes": ("a",)}, "at least 2 classes"),
        ({"classes": ("a", "a")}, "each once"),
        ({"classes": ("a", "b\n")}, "cannot be the name of a class"),
        ({"positive": "z"}, "positive class 'z'"),
        ({"threshold": 0.5}, "needs a positive class"),
        ({"threshold": 1.0, "positive": "a"}, r"1.0 is not in \(0, 1\)"),
        ({"threshold": float("nan"), "positive": "a"}, "nan"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"temperature": float("nan")}, "nan"),
        ({"kind": TaskKind.MULTI_LABEL, "positive": "a"}, "no positive class"),
    ],
)
def test_an_impossible_task_is_refused_by_name(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        task_of(**({"kind": TaskKind.MULTI_CLASS} | changes))  # type: ignore[arg-type]


def test_tasks_survive_their_file(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    write_tasks(tmp_path / "heads.json", tasks)
    assert read_tasks(tmp_path / "heads.json") == tasks


def test_an_unknown_key_of_a_task_is_named(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    write_json(path, {"tasks": [tasks[0].to_json() | {"bias": 1}]})
    with pytest.raises(BundleError, match=r"tasks\[0\] has keys .* 'bias'"):
        read_tasks(path)


def test_two_tasks_of_one_name_are_refused(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    write_tasks(path, (tasks[0], tasks[0]))
    with pytest.raises(BundleError, match="pneumonia stands twice"):
        read_tasks(path)


def test_weights_survive_their_file(
    tasks: tuple[Task, ...], heads_of: Callable[..., dict[str, Floats]], tmp_path: Path
) -> None:
    state = heads_of(tasks, 7)
    write_head_state(tmp_path / "heads.safetensors", state)
    read = read_head_state(tmp_path / "heads.safetensors", tasks, dimension=7)
    assert read.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type.bias": None}, "heads lack 'type.bias'"),
        ({"other.bias": np.zeros(2, np.float32)}, "no task asks for: 'other.bias'"),
        ({"type.bias": np.zeros(2, np.float32)}, r"float32 of shape \[3\]"),
        ({"type.bias": np.zeros(3, np.float64)}, "got float64"),
        ({"type.bias": np.full(3, np.nan, np.float32)}, "not finite"),
    ],
)
def test_weights_that_do_not_fit_the_tasks_are_refused_by_name(
    change: dict[str, object],
    says: str,
    tasks: tuple[Task, ...],
    heads_of: Callable[..., dict[str, Floats]],
    tmp_path: Path,
) -> None:
    state = {k: v for k, v in (heads_of(tasks, 7) | change).items() if v is not None}
    write_head_state(tmp_path / "heads.safetensors", state)
    with pytest.raises(BundleError, match=says):
        read_head_state(tmp_path / "heads.safetensors", tasks, dimension=7)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_what_is_not_safetensors_is_refused(
    content: bytes, tasks: tuple[Task, ...], tmp_path: Path
) -> None:
    (tmp_path / "heads.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"heads\.safetensors cannot be read"):
        read_head_state(tmp_path / "heads.safetensors", tasks, dimension=7)
