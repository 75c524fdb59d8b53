"""From evidence to cause: each row of the table is one kind of evidence."""

from __future__ import annotations

import pytest

from monitor.causes import Cause, ShiftEvidence, diagnose, shares
from monitor.subgroups import Attribute, Subgroup

SOFTWARE, MODEL, VIEW = Attribute.SOFTWARE_VERSION, Attribute.SCANNER_MODEL, Attribute.VIEW
OLD, NEW = Subgroup(attribute=SOFTWARE, value="1"), Subgroup(attribute=SOFTWARE, value="2")
ALPHA = 0.005
MOVED, STILL = 0.0001, 0.4

BEFORE = {SOFTWARE: {"1": 1.0}, MODEL: {"DR": 1.0}, VIEW: {"AP": 0.8, "PA": 0.2}}


def evidence(
    *,
    now: dict[Attribute, dict[str, float]] | None = None,
    before: dict[Attribute, dict[str, float]] | None = None,
    p_values: dict[Subgroup, float] | None = None,
    displaced: float = 0.1,
) -> ShiftEvidence:
    return ShiftEvidence(
        reference_shares=BEFORE if before is None else before,
        window_shares=BEFORE | (now or {}),
        subgroup_p_values=p_values or {},
        displaced_share=displaced,
        alpha=ALPHA,
    )


@pytest.mark.parametrize(
    ("found", "cause", "subgroup"),
    [
        pytest.param(
            evidence(now={SOFTWARE: {"2": 1.0}}, p_values={NEW: MOVED}),
            Cause.ACQUISITION,
            NEW,
            id="a new version carries the whole shift",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {"1": 0.4, "2": 0.6}}, p_values={NEW: MOVED, OLD: STILL}),
            Cause.ACQUISITION,
            NEW,
            id="a new version carries it and the old one did not move",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {"1": 0.4, "2": 0.6}}, p_values={NEW: MOVED, OLD: MOVED}),
            Cause.UNKNOWN,
            None,
            id="the old version moved as well",
        ),
        pytest.param(
            evidence(
                now={SOFTWARE: {"1": 0.4, "2": 0.6}},
                p_values={NEW: MOVED, OLD: MOVED},
                displaced=0.9,
            ),
            Cause.TECHNICAL,
            None,
            id="the old version moved as well and most scans are displaced",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {"2": 1.0}}, p_values={NEW: STILL}),
            Cause.UNKNOWN,
            None,
            id="a new version that did not move",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {"2": 1.0}}),
            Cause.UNKNOWN,
            None,
            id="a new version that was not tested",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {"1": 0.7, "2": 0.3}}, p_values={NEW: MOVED, OLD: STILL}),
            Cause.UNKNOWN,
            NEW,
            id="a new version that too few scans have",
        ),
        pytest.param(
            evidence(
                before={SOFTWARE: {"1": 0.9, "2": 0.1}},
                now={SOFTWARE: {"2": 1.0}},
                p_values={NEW: MOVED},
            ),
            Cause.UNKNOWN,
            None,
            id="a version that the reference knows",
        ),
        pytest.param(
            evidence(
                before={SOFTWARE: {"1": 0.996, "2": 0.004}},
                now={SOFTWARE: {"2": 1.0}},
                p_values={NEW: MOVED},
            ),
            Cause.ACQUISITION,
            NEW,
            id="a version that almost none of the reference has",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {}}, before={}, displaced=0.9),
            Cause.TECHNICAL,
            None,
            id="no metadata and most scans displaced",
        ),
        pytest.param(
            evidence(now={SOFTWARE: {}}, before={}, displaced=0.1),
            Cause.UNKNOWN,
            None,
            id="no metadata and few scans displaced",
        ),
        pytest.param(
            evidence(
                p_values={
                    Subgroup(attribute=VIEW, value="AP"): STILL,
                    Subgroup(attribute=VIEW, value="PA"): MOVED,
                }
            ),
            Cause.UNKNOWN,
            Subgroup(attribute=VIEW, value="PA"),
            id="one view alone moved",
        ),
        pytest.param(
            evidence(
                p_values={
                    Subgroup(attribute=VIEW, value="AP"): MOVED,
                    Subgroup(attribute=VIEW, value="PA"): MOVED,
                }
            ),
            Cause.UNKNOWN,
            None,
            id="every view moved",
        ),
    ],
)
def test_a_cause_is_named_only_as_deep_as_the_evidence_allows(
    found: ShiftEvidence, cause: Cause, subgroup: Subgroup | None
) -> None:
    diagnosis = diagnose(found)
    assert (diagnosis.cause, diagnosis.subgroup) == (cause, subgroup)


def test_the_most_specific_new_attribute_is_named() -> None:
    model = Subgroup(attribute=MODEL, value="DR 2")
    both = evidence(
        now={SOFTWARE: {"2": 1.0}, MODEL: {"DR 2": 1.0}}, p_values={model: MOVED, NEW: MOVED}
    )
    assert diagnose(both).subgroup == NEW


def test_a_view_is_no_equipment_and_never_speaks_for_acquisition() -> None:
    lateral = Subgroup(attribute=VIEW, value="LL")
    found = evidence(now={VIEW: {"LL": 1.0}}, p_values={lateral: MOVED})
    assert diagnose(found).cause is Cause.UNKNOWN


def test_reasons_say_what_carries_the_shift_what_did_not_move_and_how_far_scans_lie() -> None:
    found = evidence(
        now={SOFTWARE: {"1": 0.4, "2": 0.6}},
        p_values={NEW: MOVED, OLD: STILL},
        displaced=0.7,
    )
    carrier, others, displaced = diagnose(found).reasons
    assert carrier.startswith("software version 2 is new: 60% of these scans have it")
    assert "older value did not move: 1 (p = 0.4)" in others
    assert displaced.startswith("70% of scans lie beyond")


def test_absent_values_count_in_the_denominator_only() -> None:
    assert shares(["1", None, "1", "2"]) == {"1": 0.5, "2": 0.25}
