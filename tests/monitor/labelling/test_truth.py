from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.labelling.truth import Dispute, Truth, decide
from monitor.tables import LabelRow

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def labels(*stated: str) -> list[LabelRow]:
    """Return labels from `PROVENANCE READER VALUE HOURS [influenced]`, in the order of arrival."""
    return [row(number, *one.split()) for number, one in enumerate(stated, start=1)]


def row(
    number: int, provenance: str, reader: str, value: str, hours: str = "0", ai: str = ""
) -> LabelRow:
    multi_label = value.startswith("{")
    classes = sorted(filter(None, value.strip("{}").split(",")))
    return LabelRow(
        id=number,
        scan=1,
        task="task",
        value=int(bool(classes)) if multi_label else int(value),
        classes=classes if multi_label else None,
        provenance=provenance,
        reader="" if reader == "-" else reader,
        signed_at=None if hours == "?" else NOON + timedelta(hours=float(hours)),
        ai_influenced=bool(ai),
        arrived_at=NOON,
    )


@pytest.mark.parametrize(
    ("stated", "value", "provenance"),
    [
        (["reader a 1"], 1, "reader"),
        (["reader a 1", "reader a 0 2"], 0, "reader"),
        # What arrives later and was signed before is no correction.
        (["reader a 0 2", "reader a 1 1"], 0, "reader"),
        (["report a 1 ?", "reader a 0 1"], 0, "reader"),
        (["reader a 1", "reader b 1", "reader c 0"], 1, "reader"),
        (["reader a 1", "reader b 1", "report c 0"], 1, "report"),
        (["reader a 2", "dataset b 2"], 2, "dataset"),
        (["reader a 1", "reader b 0", "adjudicated c 0 1"], 0, "adjudicated"),
        (["adjudicated c 0 1", "adjudicated d 1 2"], 1, "adjudicated"),
        (["reader a 1", "reader b 1", "pathology lab 0"], 0, "pathology"),
        (["adjudicated c 1 9", "pathology lab 0"], 0, "pathology"),
        (["pathology x 0", "pathology y 1", "adjudicated c 1 9"], 1, "adjudicated"),
        (["pathology x 0", "pathology x 1 2"], 1, "pathology"),
    ],
)
def test_pathology_then_adjudication_then_the_majority_of_readers_decide(
    stated: list[str], value: int, provenance: str
) -> None:
    found = decide(labels(*stated))
    assert isinstance(found, Truth)
    assert (found.value, found.provenance.value) == (value, provenance)


@pytest.mark.parametrize(
    "stated",
    [
        ["reader a 1", "reader b 0"],
        ["reader a 0", "reader b 1", "reader c 2"],
        ["reader a 1", "reader b 1", "reader c 0", "reader d 0"],
        ["reader a 1", "reader b 1", "reader c 0", "reader d 2"],
        ["pathology x 0", "pathology y 1", "reader a 1", "reader b 1"],
        ["adjudicated c 0 1", "adjudicated d 1 1"],
        ["reader a {nodule}", "reader b {}"],
    ],
)
def test_without_more_than_half_the_scan_is_disputed(stated: list[str]) -> None:
    found = decide(labels(*stated))
    assert isinstance(found, Dispute)
    assert found.voices


def test_each_class_of_a_multi_label_task_is_decided_by_itself() -> None:
    found = decide(
        labels("reader a {nodule,effusion}", "reader b {nodule}", "reader c {effusion,mass}")
    )
    assert isinstance(found, Truth)
    assert (found.value, found.classes) == (1, ("effusion", "nodule"))
    nothing = decide(labels("reader a {}", "reader b {mass}", "reader c {}"))
    assert isinstance(nothing, Truth)
    assert (nothing.value, nothing.classes) == (0, ())


def test_one_influenced_label_influences_the_consensus_even_where_it_dissents() -> None:
    free = decide(labels("reader a 1", "reader b 1"))
    agreeing = decide(labels("reader a 1", "reader b 1 0 ai"))
    dissenting = decide(labels("reader a 1", "reader b 1", "reader c 0 0 ai"))
    corrected = decide(labels("reader a 1 0 ai", "reader a 1 2"))
    assert [
        one.ai_influenced if isinstance(one, Truth) else None
        for one in (free, agreeing, dissenting, corrected)
    ] == [False, True, True, False]


def test_labels_that_an_adjudication_replaced_are_not_behind_the_truth() -> None:
    found = decide(labels("reader a 1 0 ai", "reader b 0 0 ai", "adjudicated c 1 2"))
    assert isinstance(found, Truth)
    assert (found.labels, found.ai_influenced) == ((3,), False)


def test_readers_without_a_name_are_told_apart_by_where_they_come_from() -> None:
    assert isinstance(decide(labels("report - 1 0", "report - 0 1")), Truth)
    assert isinstance(decide(labels("report - 1 0", "dataset - 0 1")), Dispute)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reader", "report", "dataset", "adjudicated", "pathology"]),
            st.sampled_from("abcd"),
            st.sampled_from("012"),
            st.sampled_from(["0", "1", "2", "?"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_order_of_arrival_decides_nothing_but_among_labels_of_one_moment(
    stated: list[tuple[str, str, str, str]],
) -> None:
    moments = {(reader, provenance, hours) for provenance, reader, _, hours in stated}
    if len(moments) < len(stated) or len({(r, h) for _, r, _, h in stated}) < len(stated):
        return
    rows = [row(number, *one) for number, one in enumerate(stated, start=1)]
    there, back = decide(rows), decide(list(reversed(rows)))
    assert type(there) is type(back)
    if isinstance(there, Truth) and isinstance(back, Truth):
        assert (there.value, there.provenance) == (back.value, back.provenance)
