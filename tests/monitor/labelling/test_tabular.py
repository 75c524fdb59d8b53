from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.intake.keys import SecretKey
from monitor.labelling.provenance import Provenance
from monitor.labelling.statements import Statement
from monitor.labelling.tabular import read_csv
from monitor.labelling.values import TaskValues, zero_or_one
from registry.errors import LabelError

KEY = SecretKey(b"k" * 32)
HEADER = "instance,task,value,provenance,reader,signed_at\n"
GOOD = "1.2.3,pneumonia,1,reader,dr-a,2026-03-02T10:00:00+00:00\n"


def read(text: str | bytes) -> list[Statement]:
    content = text if isinstance(text, bytes) else text.encode()

    def values_of(task: str) -> TaskValues:
        if task == "findings":
            return TaskValues(task=task, multi_label=True, classes=("mass", "nodule"))
        if task == "grade":
            return TaskValues(task=task, classes=("none", "mild", "severe"))
        return zero_or_one(task)

    return read_csv(content, file="labels.csv", site="north", key=KEY, values_of=values_of)


def test_a_file_is_read_with_its_identifiers_turned_into_pseudonyms() -> None:
    [label] = read(HEADER + GOOD)
    assert (label.task, label.value.value, label.reader) == ("pneumonia", 1, "dr-a")
    assert label.provenance is Provenance.READER
    assert label.place == "line 2"
    [instance] = label.instances
    assert instance.startswith("2.25.")


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (GOOD.replace(",1,reader", ",2,reader"), "value"),
        (GOOD.replace(",1,reader", ",,reader"), "value"),
        (GOOD.replace("reader,dr-a", "guess,dr-a"), "provenance"),
        (GOOD.replace("+00:00", ""), "signed_at"),
        (GOOD.replace("2026-03-02T10:00:00+00:00", "yesterday"), "signed_at"),
        (GOOD.replace("2026-03-02T10:00:00+00:00", ""), "signed_at"),
        (GOOD.replace("2026-03-02T10:00:00+00:00", "0001-01-01T00:00:00+14:00"), "signed_at"),
        (GOOD.replace("1.2.3", ""), "instance"),
        (GOOD.replace("dr-a", " "), "reader"),
        (GOOD.replace("pneumonia", "Pneumonia?"), "task"),
        (GOOD.replace("pneumonia,1", "grade,3"), "value"),
        (GOOD.replace("pneumonia,1", "grade,moderate"), "value"),
        (GOOD.replace("pneumonia,1", "findings,1"), "value"),
        (GOOD.replace("pneumonia,1", "findings,mass|mass"), "value"),
        (GOOD.replace("pneumonia,1", "findings,mass|fracture"), "value"),
    ],
)
def test_an_error_names_file_line_and_column(row: str, column: str) -> None:
    with pytest.raises(LabelError, match=rf"labels\.csv:3: {column} must be") as error:
        read(HEADER + GOOD + row)
    assert error.value.place == "line 3"


def test_values_are_numbers_or_names_of_classes_and_sets_of_names() -> None:
    rows = ["grade,2", "grade,severe", "findings,nodule|mass", "findings,-"]
    read_rows = [read(HEADER + GOOD.replace("pneumonia,1", row))[0].value for row in rows]
    assert [(one.value, one.classes) for one in read_rows] == [
        (2, None),
        (2, None),
        (1, ("mass", "nodule")),
        (0, ()),
    ]


def test_a_label_from_a_report_may_lack_the_time_of_signing() -> None:
    row = GOOD.replace("reader,dr-a", "report,").replace("2026-03-02T10:00:00+00:00", "")
    [label] = read(HEADER + row)
    assert label.signed_at is None


def test_a_name_of_a_person_becomes_a_pseudonym_and_a_code_stays() -> None:
    named = [
        read(HEADER + GOOD.replace("dr-a", f'"{name}"'))[0].reader
        for name in ("Meier^Anna", "meier anna", "Meier, Anna", "R.7")
    ]
    assert named[0] == named[1]
    assert named[0].startswith("reader-")
    assert named[2].startswith("reader-")
    assert named[3] == "R.7"


def test_what_is_no_table_of_labels_is_named() -> None:
    with pytest.raises(LabelError, match=r"labels\.csv lacks the column reader, signed_at"):
        read("instance,task,value,provenance\n")
    with pytest.raises(LabelError, match=r"has the column task, value more than once"):
        read("task,value," + HEADER + "x,0," + GOOD)
    with pytest.raises(LabelError, match="is not UTF-8 text"):
        read(b"\xff\xfe\x00")
    with pytest.raises(LabelError, match="no CSV"):
        read(HEADER + "x" * 200_000)


def test_a_row_with_more_fields_than_columns_is_refused_with_its_line() -> None:
    with pytest.raises(LabelError, match=r"labels\.csv:3: has more fields") as error:
        read(HEADER + GOOD + GOOD.replace("dr-a", "Meier, Anna"))
    assert error.value.place == "line 3"
    assert "Meier" not in str(error.value)
    # Columns that are not ours are nobody's business, as often as they come.
    wider = HEADER.replace("\n", ",note,note\n") + GOOD.replace("\n", ",a,b\n")
    assert len(read(wider)) == 1


def test_no_error_repeats_what_the_file_says_of_a_patient() -> None:
    row = GOOD.replace("1.2.3", "DOE^JANE").replace(",1,reader", ",pos for DOE^JANE,reader")
    with pytest.raises(LabelError) as error:
        read(HEADER + row)
    assert "DOE" not in str(error.value)


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(LabelError):
        read(HEADER.encode() + content)
