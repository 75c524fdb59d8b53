"""From evidence to cause: each row of the table is one kind of evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from believable_verdicts import subgroup_verdict

from monitor.episodes.causes import Cause, ShiftEvidence, diagnose, shares
from monitor.localising import SubgroupVerdict, locate
from monitor.statistics.attribution.classifier import Attribution, Doubt, PieceEvidence
from monitor.statistics.attribution.first_level import FirstLevel
from monitor.subgroups import Attribute

SOFTWARE, MODEL, VIEW = Attribute.SOFTWARE_VERSION, Attribute.SCANNER_MODEL, Attribute.VIEW
MOVED, STILL = 0.0001, 0.4
BEFORE = {SOFTWARE: {"1": 1.0}, MODEL: {"DR": 1.0}, VIEW: {"AP": 0.8, "PA": 0.2}}
NEW, OLD = "software_version=2", "software_version=1"
FIRST, SECOND, EVERYONE = range(60), range(60, 100), range(100)


def evidence(
    *tested: SubgroupVerdict,
    now: dict[Attribute, dict[str, float]] | None = None,
    before: dict[Attribute, dict[str, float]] | None = None,
    displaced: float = 0.1,
) -> ShiftEvidence:
    return ShiftEvidence(
        place=locate(tested, scans=100),
        tested=tested,
        reference_shares=BEFORE if before is None else before,
        place_shares=BEFORE | (now or {}),
        displaced_share=displaced,
    )


@pytest.mark.parametrize(
    ("found", "cause", "subgroup"),
    [
        pytest.param(
            evidence(subgroup_verdict(NEW, EVERYONE, MOVED), now={SOFTWARE: {"2": 1.0}}),
            Cause.ACQUISITION,
            NEW,
            id="a new version carries the whole shift",
        ),
        pytest.param(
            evidence(
                subgroup_verdict(NEW, FIRST, MOVED),
                subgroup_verdict(OLD, SECOND, STILL),
                now={SOFTWARE: {"2": 1.0}},
            ),
            Cause.ACQUISITION,
            NEW,
            id="a new version carries it and the old one did not move",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("site=north", range(40), MOVED),
                subgroup_verdict("site=south", range(40, 100), STILL),
                subgroup_verdict("site=north & software_version=2", range(25), MOVED),
                subgroup_verdict("site=north & software_version=1", range(25, 40), STILL),
                now={SOFTWARE: {"2": 1.0}},
            ),
            Cause.ACQUISITION,
            "site=north & software_version=2",
            id="a new version at one site, of few scans",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("station=1", FIRST, MOVED),
                subgroup_verdict("station=2", SECOND, STILL),
                now={SOFTWARE: {"1": 0.1, "2": 0.9}},
            ),
            Cause.ACQUISITION,
            "station=1",
            id="a new version of one scanner, whose scans go by its name",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("station=1", FIRST, MOVED),
                subgroup_verdict("station=2", SECOND, STILL),
                subgroup_verdict(NEW, range(50), STILL),
                now={SOFTWARE: {"1": 0.1, "2": 0.9}},
            ),
            Cause.UNKNOWN,
            "station=1",
            id="a new version of one scanner, which did not move by itself",
        ),
        pytest.param(
            evidence(
                subgroup_verdict(NEW, FIRST, MOVED),
                subgroup_verdict(OLD, SECOND, MOVED),
                now={SOFTWARE: {"1": 0.4, "2": 0.6}},
            ),
            Cause.UNKNOWN,
            None,
            id="the old version moved as well",
        ),
        pytest.param(
            evidence(
                subgroup_verdict(NEW, FIRST, MOVED),
                subgroup_verdict(OLD, SECOND, MOVED),
                now={SOFTWARE: {"1": 0.4, "2": 0.6}},
                displaced=0.9,
            ),
            Cause.TECHNICAL,
            None,
            id="the old version moved as well and most scans are displaced",
        ),
        pytest.param(
            evidence(subgroup_verdict(NEW, EVERYONE, STILL), now={SOFTWARE: {"2": 1.0}}),
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
            evidence(
                subgroup_verdict(NEW, EVERYONE, MOVED),
                before={SOFTWARE: {"1": 0.9, "2": 0.1}},
                now={SOFTWARE: {"2": 1.0}},
            ),
            Cause.UNKNOWN,
            None,
            id="a version that the reference knows",
        ),
        pytest.param(
            evidence(
                subgroup_verdict(NEW, EVERYONE, MOVED),
                before={SOFTWARE: {"1": 0.996, "2": 0.004}},
                now={SOFTWARE: {"2": 1.0}},
            ),
            Cause.ACQUISITION,
            NEW,
            id="a version that almost none of the reference has",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("station=1", FIRST, MOVED),
                subgroup_verdict("station=2", SECOND, STILL),
                displaced=0.8,
            ),
            Cause.ACQUISITION,
            "station=1",
            id="all scans of one scanner are displaced and no other's",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("site=north", FIRST, MOVED),
                subgroup_verdict("site=south", SECOND, STILL),
                displaced=0.8,
            ),
            Cause.PIPELINE,
            "site=north",
            id="all scans of one site are displaced and no other's",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("view=PA", FIRST, MOVED),
                subgroup_verdict("view=AP", SECOND, STILL),
                displaced=0.8,
            ),
            Cause.TECHNICAL,
            "view=PA",
            id="all scans of one view are displaced",
        ),
        pytest.param(
            evidence(before={}, now={SOFTWARE: {}}, displaced=0.9),
            Cause.TECHNICAL,
            None,
            id="no metadata and most scans displaced",
        ),
        pytest.param(
            evidence(before={}, now={SOFTWARE: {}}, displaced=0.1),
            Cause.UNKNOWN,
            None,
            id="no metadata and few scans displaced",
        ),
        pytest.param(
            evidence(
                subgroup_verdict("view=PA", FIRST, MOVED),
                subgroup_verdict("view=AP", SECOND, STILL),
            ),
            Cause.UNKNOWN,
            "view=PA",
            id="one view alone moved and few scans are displaced",
        ),
        pytest.param(
            evidence(subgroup_verdict("view=PA", EVERYONE, MOVED), now={VIEW: {"LL": 1.0}}),
            Cause.UNKNOWN,
            None,
            id="a view is no equipment, new or not",
        ),
    ],
)
def test_a_cause_is_named_only_as_deep_as_the_evidence_allows(
    found: ShiftEvidence, cause: Cause, subgroup: str | None
) -> None:
    diagnosis = diagnose(found)
    named = None if diagnosis.subgroup is None else str(diagnosis.subgroup)
    assert (diagnosis.cause, named) == (cause, subgroup)


def test_the_most_specific_new_attribute_is_named() -> None:
    found = evidence(
        subgroup_verdict("scanner_model=DR 2", EVERYONE, MOVED),
        subgroup_verdict(NEW, EVERYONE, MOVED),
        now={SOFTWARE: {"2": 1.0}, MODEL: {"DR 2": 1.0}},
    )
    assert str(diagnose(found).subgroup) == NEW


def test_reasons_say_what_carries_the_shift_what_did_not_move_and_how_far_scans_lie() -> None:
    found = evidence(
        subgroup_verdict(NEW, FIRST, MOVED),
        subgroup_verdict(OLD, SECOND, STILL),
        now={SOFTWARE: {"2": 1.0}},
        displaced=0.7,
    )
    carrier, others, displaced = diagnose(found).reasons
    assert carrier.startswith("software version 2 is new: 100% of these scans have it")
    assert "older value did not move: 1 (p = 0.4)" in others
    assert displaced.startswith("70% of scans lie beyond")


def test_absent_values_count_in_the_denominator_only() -> None:
    assert shares(["1", None, "1", "2"]) == {"1": 0.5, "2": 0.25}


def pattern(
    cause: FirstLevel,
    *,
    leading: FirstLevel | None = None,
    doubt: Doubt = Doubt.NONE,
    likest: str = "",
) -> Attribution:
    leading = leading or cause
    return Attribution(
        cause=cause,
        doubt=doubt,
        leading=leading,
        confidence=0.97,
        shares=((leading, 0.9), (FirstLevel.CASE_MIX, 0.08), (FirstLevel.ROUTING, 0.01)),
        likest=likest or leading.value,
        farther=0.4,
        evidence=(
            PieceEvidence(piece="views", contribution=0.5, numbers={"all: common change": 0.2}),
            PieceEvidence(piece="size", contribution=0.0, numbers={"patients": 2.3}),
        ),
    )


@pytest.mark.parametrize("cause", [FirstLevel.PREVALENCE, FirstLevel.POPULATION])
def test_a_pattern_names_the_cause_where_no_equipment_is_new(cause: FirstLevel) -> None:
    found = diagnose(replace(evidence(displaced=0.9), pattern=pattern(cause)))
    assert found.cause is Cause(cause.value)
    assert f"the pattern is that of {cause.value}: on held-out images 97 % of" in (
        found.reasons[0].replace("%", " %")
    )
    assert "case mix 8%" in found.reasons[0]
    assert found.reasons[1] == "what weighed most in it: views"


def test_a_technical_pattern_is_told_apart_by_its_place() -> None:
    found = diagnose(
        replace(
            evidence(
                subgroup_verdict("station=1", FIRST, MOVED),
                subgroup_verdict("station=2", SECOND, STILL),
            ),
            pattern=pattern(FirstLevel.TECHNICAL),
        )
    )
    assert found.cause is Cause.ACQUISITION
    assert str(found.subgroup) == "station=1"


@pytest.mark.parametrize(
    ("alone", "leading", "cause"),
    [
        ("station=1", FirstLevel.TECHNICAL, Cause.ACQUISITION),
        ("station=1", FirstLevel.POPULATION, Cause.UNKNOWN),
        ("site=north", FirstLevel.TECHNICAL, Cause.UNKNOWN),
        ("sex=F", FirstLevel.TECHNICAL, Cause.UNKNOWN),
    ],
)
def test_a_doubtful_technical_pattern_is_named_where_one_scanner_alone_moved(
    alone: str, leading: FirstLevel, cause: Cause
) -> None:
    others = {"station=1": "station=2", "site=north": "site=south", "sex=F": "sex=M"}
    moved = evidence(
        subgroup_verdict(alone, FIRST, MOVED),
        subgroup_verdict(others[alone], SECOND, STILL),
    )
    told = pattern(FirstLevel.UNKNOWN, leading=leading, doubt=Doubt.UNLIKE)
    found = diagnose(replace(moved, pattern=told))
    assert found.cause is cause
    assert str(found.subgroup) == alone
    assert Doubt.UNLIKE.value in found.reasons[0]


def test_what_names_a_cause_that_a_doubtful_pattern_does_not_is_said() -> None:
    moved = evidence(
        subgroup_verdict("station=1", FIRST, MOVED),
        subgroup_verdict("station=2", SECOND, STILL),
    )
    said = "that one scanner's scans alone moved names the cause with it"
    told = pattern(FirstLevel.UNKNOWN, leading=FirstLevel.TECHNICAL, doubt=Doubt.UNLIKE)
    assert said in diagnose(replace(moved, pattern=told)).reasons
    sure = pattern(FirstLevel.TECHNICAL)
    assert said not in diagnose(replace(moved, pattern=sure)).reasons


@pytest.mark.parametrize(
    ("known", "new"), [({"east": 0.4, "south": 0.6}, True), ({"north": 1.0}, False)]
)
def test_a_site_that_appears_is_said_to_be_new(known: dict[str, float], new: bool) -> None:
    found = evidence(
        subgroup_verdict("site=north", FIRST, MOVED),
        subgroup_verdict("site=south", SECOND, STILL),
        now={MODEL: {"DR 2": 1.0}},
        before={**BEFORE, Attribute.SITE: known},
    )
    reasons = diagnose(found).reasons
    assert reasons[0].startswith("scanner model DR 2 is new")
    assert any(one.startswith("site north is new, too") for one in reasons) is new


def test_what_is_mixed_says_of_what() -> None:
    told = pattern(FirstLevel.MIXED, likest="prevalence and technical")
    found = diagnose(replace(evidence(), pattern=told))
    assert found.cause is Cause.MIXED
    assert "prevalence and technical" in found.reasons[0]


def test_a_doubtful_pattern_names_no_cause_though_most_scans_are_displaced() -> None:
    told = pattern(FirstLevel.UNKNOWN, leading=FirstLevel.TECHNICAL, doubt=Doubt.UNSURE)
    found = diagnose(replace(evidence(displaced=0.9), pattern=told))
    assert found.cause is Cause.UNKNOWN
    assert Doubt.UNSURE.value in found.reasons[0]
    assert (
        "technical is likest (right in 97% of such cases); next case mix 8%"
        in (found.reasons[0])
    )


def test_how_often_answers_are_right_is_not_said_of_what_none_of_them_was_like() -> None:
    told = pattern(FirstLevel.UNKNOWN, leading=FirstLevel.TECHNICAL, doubt=Doubt.UNLIKE)
    found = diagnose(replace(evidence(displaced=0.9), pattern=told))
    assert found.cause is Cause.UNKNOWN
    assert found.reasons[0] == (
        f"the pattern names no cause, as {Doubt.UNLIKE.value}: technical; next case mix 8%"
    )


def test_what_is_unlike_the_likest_cause_is_said() -> None:
    told = pattern(FirstLevel.UNKNOWN, leading=FirstLevel.CASE_MIX, doubt=Doubt.UNLIKE)
    strange = replace(told, unlike=("finding", "champion members"))
    found = diagnose(replace(evidence(), pattern=strange))
    assert found.reasons[1] == (
        "what is unlike simulated windows of case mix: finding, champion members"
    )
    sure = replace(pattern(FirstLevel.CASE_MIX), unlike=("finding",))
    named = diagnose(replace(evidence(), pattern=sure))
    assert not any("unlike" in reason for reason in named.reasons)


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        (pattern(FirstLevel.TECHNICAL), Cause.ACQUISITION),
        (pattern(FirstLevel.UNKNOWN, leading=FirstLevel.MIXED, doubt=Doubt.UNSURE), None),
        (pattern(FirstLevel.PREVALENCE), Cause.UNKNOWN),
    ],
)
def test_new_equipment_is_the_cause_unless_the_pattern_surely_speaks_against_it(
    told: Attribution, cause: Cause | None
) -> None:
    new = evidence(subgroup_verdict(NEW, EVERYONE, MOVED), now={SOFTWARE: {"2": 1.0}})
    found = diagnose(replace(new, pattern=told))
    assert found.cause is (cause or Cause.ACQUISITION)
    assert str(found.subgroup) == NEW


def test_why_there_is_no_pattern_is_said_first() -> None:
    found = diagnose(replace(evidence(), no_pattern="the pixels are no longer kept"))
    assert found.reasons[0] == (
        "no pattern to tell the cause by: the pixels are no longer kept"
    )


def test_a_prevalence_is_told_where_it_is_known() -> None:
    told = "60% of scans have the finding (50% to 70%), 40% in the reference: told by 90 scans"
    found = diagnose(
        replace(evidence(), pattern=pattern(FirstLevel.PREVALENCE), prevalence=told)
    )
    assert found.reasons[2] == told
