from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundles.scan_units import Choose, Reading, Selection


@given(
    count=st.integers(1, 2000),
    at_most=st.integers(1, 64),
    choose=st.sampled_from((Choose.MIDDLE, Choose.EVENLY)),
)
def test_instances_are_chosen_in_order_each_once_and_about_the_middle(
    count: int, at_most: int, choose: Choose
) -> None:
    chosen = Reading(choose=choose, at_most=at_most).chosen(count)
    assert len(chosen) == min(count, at_most)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < count
    # As many lie before the first as behind the last, give or take one.
    assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1


def test_all_of_a_scan_is_all_or_too_many() -> None:
    reading = Reading(choose=Choose.ALL, at_most=4)
    assert reading.chosen(4) == (0, 1, 2, 3)
    assert not reading.too_many(4)
    assert reading.too_many(5)


@pytest.mark.parametrize(
    ("selection", "refused"),
    [
        (Selection(), False),
        (Selection(modalities=("CT", "MR")), False),
        (Selection(modalities=("MR",)), True),
        (Selection(least_instances=30), False),
        (Selection(least_instances=31), True),
        (Selection(protocol_words=("lung", "Chest")), False),
        (Selection(protocol_words=("HEAD",)), True),
    ],
)
def test_a_series_is_selected_by_what_is_declared(selection: Selection, refused: bool) -> None:
    reason = selection.series_refusal(modality="CT", protocol="CHEST ROUTINE", instances=30)
    assert (reason is not None) == refused


def test_a_series_without_a_protocol_has_none_of_its_words() -> None:
    reason = Selection(protocol_words=("HEAD",)).series_refusal(
        modality="CT", protocol=None, instances=30
    )
    assert reason == "series of protocol not stated: it reads those named HEAD"
