from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from monitored_history import History
from sqlalchemy import select

from monitor.labels import Label, LabelImport, Provenance, attach, latest, true_since
from monitor.tables import LabelRow
from registry.errors import LabelError


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
            session, list(labels), site="site", actor="test", at=history.window(1).end
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
    with pytest.raises(LabelError, match=r"1 label names scans that site site never sent"):
        take(history, label(history), label(history, instance="elsewhere"))
    with history.database.reading() as session:
        assert session.scalars(select(LabelRow)).all() == []


def test_a_disputed_scan_counts_from_when_its_first_truth_was_known(history: History) -> None:
    [scan] = history.add(1, at=history.anchor)
    first, second, third = (history.window(number).end for number in (1, 2, 3))
    one = label(history)
    with history.database.transaction() as session:
        for reader, value, at in (("a", 1, first), ("b", 0, second), ("c", 0, third)):
            said = replace(one, reader=reader, value=value)
            attach(session, [said], site="site", actor="test", at=at)
    with history.database.reading() as session:
        assert latest(session, [scan])[scan, "pneumonia"].value == 0
        # By the first reader alone it was known, until the second one disagreed.
        assert true_since(session, [scan], task="pneumonia") == {scan: first}
        assert true_since(session, [scan], task="other") == {}


def test_two_who_disagree_from_the_beginning_make_nothing_known(history: History) -> None:
    [scan] = history.add(1, at=history.anchor)
    first, second = history.window(1).end, history.window(2).end
    pathology = [
        replace(label(history), reader=lab, value=value, provenance=Provenance.PATHOLOGY)
        for lab, value in (("x", 0), ("y", 1))
    ]
    with history.database.transaction() as session:
        attach(session, pathology, site="site", actor="test", at=first)
    with history.database.reading() as session:
        assert latest(session, [scan]) == {}
        assert true_since(session, [scan], task="pneumonia") == {}
    adjudicated = replace(
        label(history, hours=3), reader="z", provenance=Provenance.ADJUDICATED
    )
    with history.database.transaction() as session:
        attach(session, [adjudicated], site="site", actor="test", at=second)
    with history.database.reading() as session:
        known = latest(session, [scan])[scan, "pneumonia"]
        assert true_since(session, [scan], task="pneumonia") == {scan: second}
    assert (known.value, known.provenance) == (1, Provenance.ADJUDICATED)
