"""What a label says of a task's findings."""

from __future__ import annotations

import pytest

from monitor.labelling.provenance import Provenance
from monitor.labelling.truth import Truth
from monitor.performance.finding import holds, says_which
from registry.bundles.heads import Task, TaskKind
from registry.errors import ConflictError

CHEST = Task(name="chest", kind=TaskKind.MULTI_LABEL, classes=("fluid", "mass"))
TRIAGE = Task(name="triage", kind=TaskKind.MULTI_CLASS, classes=("no", "some", "much"))


def truth(value: int, classes: tuple[str, ...] | None = None) -> Truth:
    return Truth(
        value=value,
        classes=classes,
        provenance=Provenance.READER,
        ai_influenced=False,
        signed_at=None,
        labels=(1,),
    )


def test_a_label_says_which_findings_are_there() -> None:
    assert holds(CHEST, "mass", truth(1, ("mass",)))
    assert not holds(CHEST, "fluid", truth(1, ("mass",)))
    assert holds(TRIAGE, "much", truth(2))
    assert not holds(TRIAGE, "no", truth(2))


def test_a_label_from_before_the_classes_were_declared_says_not_which() -> None:
    assert says_which(CHEST, truth(0))
    assert not holds(CHEST, "mass", truth(0))
    assert not says_which(CHEST, truth(1))
    with pytest.raises(ConflictError, match="label mapping apply"):
        holds(CHEST, "mass", truth(1))
