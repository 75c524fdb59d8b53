from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from monitored_history import History
from sqlalchemy import select

from monitor.labels import Label, LabelImport, Provenance, attach, latest, read_csv
from monitor.tables import LabelRow
from registry.errors import LabelError

HEADER = "instance,task,value,provenance,reader,signed_at\n"
GOOD = "1.2.3,pneumonia,1,reader,dr-a,2026-03-02T10:00:00+00:00\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_with_its_identifiers_turned_into_pseudonyms(tmp_path: Path) -> None:
    [label] = read_csv(write(tmp_path, HEADER + GOOD), pseudonym=lambda uid: f"p:{uid}")
    assert (label.instance, label.task, label.value) == ("p:1.2.3", "pneumonia", 1)
    assert label.provenance is Provenance.READER
    assert label.line == 2


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (GOOD.replace(",1,reader", ",2,reader"), "value"),
        (GOOD.replace(",1,reader", ",,reader"), "value"),
        (GOOD.replace("reader,dr-a", "guess,dr-a"), "provenance"),
        (GOOD.replace("+00:00", ""), "signed_at"),
        (GOOD.replace("2026-03-02T10:00:00+00:00", "yesterday"), "signed_at"),
        (GOOD.replace("1.2.3", ""), "instance"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path: Path, row: str, column: str) -> None:
    with pytest.raises(LabelError, match=rf"labels\.csv:3: {column} must be"):
        read_csv(write(tmp_path, HEADER + GOOD + row), pseudonym=str)


def test_a_missing_column_and_an_absent_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"labels\.csv lacks the column reader, signed_at"):
        read_csv(write(tmp_path, "instance,task,value,provenance\n"), pseudonym=str)
    with pytest.raises(LabelError, match="cannot be read"):
        read_csv(tmp_path / "absent.csv", pseudonym=str)


def test_no_error_repeats_what_the_file_says_of_a_patient(tmp_path: Path) -> None:
    row = GOOD.replace("1.2.3", "DOE^JANE").replace(",1,reader", ",pos for DOE^JANE,reader")
    with pytest.raises(LabelError) as error:
        read_csv(write(tmp_path, HEADER + row), pseudonym=str)
    assert "DOE" not in str(error.value)


def label(history: History, *, value: int = 1, hours: float = 1, instance: str = "") -> Label:
    return Label(
        line=2,
        instance=instance or "instance-2-0",
        task="pneumonia",
        value=value,
        provenance=Provenance.READER,
        reader="dr-a",
        signed_at=history.anchor + timedelta(hours=hours),
    )


def take(history: History, *labels: Label) -> LabelImport:
    with history.database.transaction() as session:
        return attach(
            session, list(labels), site="site", actor="test", at=history.window(0).end
        )


def test_a_reader_who_signed_before_the_result_was_not_influenced(history: History) -> None:
    history.add(1, at=history.anchor, probabilities=[0.7])
    report = take(history, label(history, hours=1))
    assert (report.added, report.ai_influenced) == (1, 0)


def test_a_reader_who_signed_after_the_result_counts_as_influenced(history: History) -> None:
    history.add(1, at=history.anchor, probabilities=[0.7])
    assert take(history, label(history, hours=100)).ai_influenced == 1


def test_the_same_label_again_changes_nothing_and_another_value_is_a_correction(
    history: History,
) -> None:
    [scan] = history.add(1, at=history.anchor)
    take(history, label(history))
    assert take(history, label(history)).known == 1
    assert take(history, label(history, value=0, hours=2)).added == 1
    with history.database.reading() as session:
        assert len(session.scalars(select(LabelRow)).all()) == 2
        assert latest(session, [scan])[scan, "pneumonia"].value == 0


def test_labels_of_unknown_scans_are_refused_and_none_is_taken(history: History) -> None:
    history.add(1, at=history.anchor)
    with pytest.raises(LabelError, match=r"1 labels name scans that site site never sent"):
        take(history, label(history), label(history, instance="elsewhere"))
    with history.database.reading() as session:
        assert session.scalars(select(LabelRow)).all() == []
