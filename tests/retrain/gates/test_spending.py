import pytest

from registry.errors import BadInputError
from retrain.gates.spending import ONLY_USE, Uses


@pytest.mark.parametrize("declared", [1, 2, 5, 30])
def test_what_is_spent_on_all_candidates_is_alpha(declared: int) -> None:
    spent = [Uses(before=before, declared=declared).spent(0.025) for before in range(declared)]
    assert sum(spent) == pytest.approx(0.025, rel=1e-12)
    assert spent == sorted(spent, reverse=True)


def test_a_set_for_one_candidate_spends_all_of_it() -> None:
    assert ONLY_USE.spent(0.025) == 0.025


@pytest.mark.parametrize("before", [-1, 3, 4])
def test_a_set_that_is_used_up_judges_nobody(before: int) -> None:
    with pytest.raises(BadInputError, match="collect a new one"):
        Uses(before=before, declared=3)
