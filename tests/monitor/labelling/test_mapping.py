from __future__ import annotations

import pytest
from label_reports import MAPPING
from labelled_home import NOW, LabelledHome

from monitor.labelling.mapping import (
    LabelMapping,
    apply_mapping,
    code_of,
    mapping_in_force,
    parse_mapping,
)
from monitor.labelling.values import TaskValues, zero_or_one
from registry.errors import ConflictError, LabelError


def line_of(text: str, wanted: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if wanted in line)


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("version: 1", "version: 0", "version", "greater than or equal to 1"),
        ("version: 1", "versoin: 1", "versoin", "is no key that is known here"),
        ("Europe/Berlin", "Mars/Olympus", "time_zone", "is no time zone"),
        ("concept: SCT|233604007", "concept: pneumonia", "concepts.0.concept", "SCHEME|CODE"),
        ("    task: pneumonia", "    task: pnuemonia", "concepts.0.task", "none of `tasks`"),
        ("about: nodule", "about: mass", "concepts.3.about", "name the class of findings"),
        (
            "SCT|2667000: normal",
            "SCT|2667000: healthy",
            "concepts.0.values.SCT|2667000",
            "means one of normal, pneumonia",
        ),
        ("classes: [effusion, nodule]", "classes: []", "tasks.findings.classes", "1 or more"),
        ("classes: [normal, pneumonia]", "classes: [one]", "tasks.pneumonia.classes", "2 or"),
    ],
)
def test_an_error_names_file_line_and_key(old: str, new: str, key: str, message: str) -> None:
    text = MAPPING.replace(old, new, 1)
    assert text != MAPPING
    line = line_of(text, new.strip())
    with pytest.raises(LabelError) as error:
        parse_mapping(text, source="mapping.yaml")
    said = str(error.value)
    assert f"mapping.yaml:{line}: {key}: " in said
    assert message in said


def test_a_concept_stands_once_for_a_task() -> None:
    twice = MAPPING + MAPPING[MAPPING.index("  - concept") : MAPPING.index("  - concept: DCM")]
    with pytest.raises(LabelError, match="twice for the same task"):
        parse_mapping(twice, source="mapping.yaml")


def test_one_scheme_has_one_name_whether_dicom_or_fhir_calls_it() -> None:
    assert code_of("http://snomed.info/sct", " 233604007") == code_of("SCT", "233604007")
    assert code_of("99LOCAL", "x") == "99LOCAL|x"


def test_the_one_in_force_is_the_one_that_was_applied_last(home: LabelledHome) -> None:
    mapping = parse_mapping(MAPPING, source="mapping.yaml")
    with home.driftward.database.reading() as session:
        first = mapping_in_force(session)
    assert first is not None
    again = home.driftward.label_intake.apply_mapping(mapping, by=home.operator)
    assert again.digest == first.digest
    changed = parse_mapping(MAPPING.replace("Europe/Berlin", "Asia/Tokyo"), source="m.yaml")
    with pytest.raises(ConflictError, match="raise `version` above"):
        home.driftward.label_intake.apply_mapping(changed, by=home.operator)
    newer = parse_mapping(
        MAPPING.replace("version: 1", "version: 2").replace("Europe/Berlin", "Asia/Tokyo"),
        source="m.yaml",
    )
    home.driftward.label_intake.apply_mapping(newer, by=home.operator)
    with home.driftward.database.reading() as session:
        found = mapping_in_force(session)
    assert found is not None
    assert found.specification.time_zone == "Asia/Tokyo"
    assert home.ledger_is_valid()


def test_a_mapping_agrees_with_the_champions_classes(home: LabelledHome) -> None:
    def champions(task: str) -> TaskValues:
        if task == "pneumonia":
            return TaskValues(task=task, classes=("pneumonia", "normal"))
        return zero_or_one(task)

    mapping: LabelMapping = parse_mapping(
        MAPPING.replace("version: 1", "version: 2"), source="mapping.yaml"
    )
    with (
        home.driftward.database.transaction() as session,
        pytest.raises(LabelError, match="with the classes pneumonia, normal, in this order"),
    ):
        apply_mapping(session, mapping, values_of_champions=champions, actor="test", at=NOW)
