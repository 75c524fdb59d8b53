from dataclasses import fields, replace

import numpy as np
import pytest

from registry.errors import BadInputError
from retrain.gates.results import AiInfluence, PairedResults, Results


@pytest.fixture
def results(simulation) -> PairedResults:
    return simulation(positives=6, negatives=4).draw(np.random.default_rng(0))


def test_results_are_copies_that_nobody_can_write_to() -> None:
    truth, probabilities = np.array([0, 1]), np.array([0.2, 0.7])
    results = Results(
        probabilities=probabilities, truth=truth, patients=np.array(["a", "b"]), threshold=0.5
    )
    probabilities[0] = 0.9
    assert results.probabilities[0] == 0.2
    assert results.truth.dtype == np.bool_
    for field in ("probabilities", "truth", "patients"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(results, field)[0] = getattr(results, field)[1]


def test_paired_results_cannot_be_written_to_either(results: PairedResults) -> None:
    for field in fields(results):
        value = getattr(results, field.name)
        if isinstance(value, np.ndarray):
            assert not value.flags.writeable
    with pytest.raises(TypeError):
        results.subgroups["sex"] = results.patients  # type: ignore[index]
    assert not results.subgroups["sex"].flags.writeable


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("champion", np.full(9, 0.5), r"champion's probabilities have shape \[9\]"),
        ("candidate", np.full(10, 1.5), "candidate's probabilities do not all lie"),
        ("candidate", np.full(10, np.nan), "candidate's probabilities do not all lie"),
        ("truth", np.full(10, 2), "one 0 or 1 for each"),
        ("truth", np.array([]), "one 0 or 1 for each"),
        ("patients", np.arange(10), "patients must be one string"),
        ("patients", np.full(10, ""), "empty pseudonym"),
        ("champion_threshold", 0.0, "champion's threshold is 0.0"),
        ("candidate_threshold", float("nan"), "candidate's threshold is nan"),
        ("influence", (AiInfluence.NONE,), "1 labels carry a provenance"),
        ("subgroups", {"sex": np.full(3, "F")}, "values of 'sex'"),
    ],
)
def test_results_that_contradict_themselves_cannot_exist(
    results: PairedResults, field: str, value: object, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        replace(results, **{field: value})


def test_a_subgroup_holds_its_scans_alone(results: PairedResults) -> None:
    inside = results.within("sex", "F")
    assert inside is not None
    assert inside.scans == 5
    assert inside.champion.tolist() == results.champion[::2].tolist()
    assert results.within("sex", "X") is None
    assert results.within("site", "north") is None


def test_patients_are_counted_once_for_each_class() -> None:
    results = Results(
        probabilities=np.full(4, 0.5),
        truth=np.array([1, 1, 0, 1]),
        patients=np.array(["a", "a", "a", "b"]),
        threshold=0.5,
    )
    assert (results.patients_with(finding=True), results.patients_with(finding=False)) == (2, 1)
