"""Where a shift is: each row of the table is one way in which subgroups can move."""

from __future__ import annotations

import pytest
from believable_verdicts import subgroup_verdict

from monitor.localising import SubgroupVerdict, locate
from monitor.subgroups import Subgroup

MOVED, STILL, BETWEEN = 0.0001, 0.6, 0.03
NORTH, SOUTH = range(100), range(100, 200)
ONE, TWO = range(50), range(50, 100)


@pytest.mark.parametrize(
    ("tested", "carrier", "reason"),
    [
        pytest.param([], None, "no subgroup had enough scans", id="nothing was tested"),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, STILL),
            ],
            "site=north",
            "only site=north moved",
            id="one of two sites moved",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, STILL),
                subgroup_verdict("site=north & station=1", ONE, MOVED),
                subgroup_verdict("site=north & station=2", TWO, STILL),
            ],
            "site=north & station=1",
            "only site=north & station=1 moved",
            id="one scanner of a site moved, and the site with it",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, STILL),
                subgroup_verdict("site=north & station=1", ONE, MOVED),
                subgroup_verdict("site=north & station=2", TWO, MOVED),
            ],
            "site=north",
            "only site=north moved",
            id="every scanner of one site moved",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, MOVED),
            ],
            None,
            "all of 2 tested subgroups moved",
            id="both sites moved",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, STILL),
                subgroup_verdict("site=south", SOUTH, STILL),
            ],
            None,
            "none of 2 subgroups moved by itself",
            id="no site moved by itself",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, BETWEEN),
            ],
            None,
            "no single one",
            id="the other site may have moved",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, smallest_effect=0.3),
                subgroup_verdict("site=south", SOUTH, STILL, smallest_effect=0.9),
            ],
            None,
            "no single one",
            id="the other site has too few patients to show it",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, effect=0.05, smallest_effect=0.3),
                subgroup_verdict("site=south", SOUTH, STILL, smallest_effect=0.3),
            ],
            "site=north",
            "only site=north moved",
            id="a shift without effect on the mean, and a site as sensitive",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, statistic=20.0),
                subgroup_verdict("site=south", SOUTH, BETWEEN, statistic=1.0),
            ],
            "site=north",
            "only site=north moved",
            id="the other site shows something by chance, which is far less",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, statistic=20.0),
                subgroup_verdict("site=south", SOUTH, STILL, statistic=6.0),
            ],
            None,
            "no single one",
            id="the other site shows nothing, and may have moved as far",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, statistic=20.0),
                subgroup_verdict("site=south", range(100, 150), STILL, statistic=3.0),
                subgroup_verdict("site=coast", range(150, 200), STILL, statistic=0.0),
            ],
            None,
            "no single one",
            id="the fewer patients, the less of the same shift they show",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED, effect=0.0, smallest_effect=0.3),
                subgroup_verdict("site=south", SOUTH, STILL, smallest_effect=0.35),
            ],
            "site=north",
            "only site=north moved",
            id="a shift without effect on the mean, and a site that is a little smaller",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", range(100, 130), STILL),
            ],
            None,
            "no single one",
            id="most scans outside were not heard",
        ),
        pytest.param(
            [
                subgroup_verdict("site=north", NORTH, MOVED),
                subgroup_verdict("site=south", SOUTH, STILL),
                subgroup_verdict("view=AP", range(50, 150), STILL),
            ],
            "site=north",
            "only site=north moved",
            id="an attribute that cuts across says nothing",
        ),
    ],
)
def test_a_place_is_the_smallest_subgroup_that_moved_alone(
    tested: list[SubgroupVerdict], carrier: str | None, reason: str
) -> None:
    place = locate(tested, scans=200)
    assert (None if place.subgroup is None else str(place.subgroup)) == carrier
    assert reason in place.reason


def test_all_scans_are_no_subgroup_of_themselves() -> None:
    assert (
        locate([subgroup_verdict("site=north", range(200), MOVED)], scans=200).carrier is None
    )


@pytest.mark.parametrize(
    ("others", "new", "found"),
    [
        pytest.param([], {"site=north": "the new software version 2"}, "site=north", id="told"),
        pytest.param([], {}, None, id="nothing new"),
        pytest.param(
            [], {"site=south": "the new software version 2"}, None, id="new elsewhere"
        ),
        pytest.param(
            [("site=south", range(88, 100), MOVED)],
            {"site=north": "the new software version 2"},
            None,
            id="the others moved as well",
        ),
    ],
)
def test_a_new_value_tells_a_place_where_the_others_are_too_few_to_be_tested(
    others: list[tuple[str, range, float]], new: dict[str, str], found: str | None
) -> None:
    tested = [
        subgroup_verdict("site=north", range(88), MOVED),
        subgroup_verdict("view=AP", range(100), MOVED),
        *(subgroup_verdict(*one) for one in others),
    ]
    words = {Subgroup.parse(name): what for name, what in new.items()}
    place = locate(tested, scans=100, new_values=words)
    assert (str(place.subgroup) if place.subgroup else None) == found
    if found:
        assert "its scans alone have the new software version 2; of the other 12 too few" in (
            place.reason
        )


def test_a_new_value_that_all_scans_have_leaves_no_others_to_speak_of() -> None:
    tested = [subgroup_verdict("software_version=2", range(100), MOVED)]
    words = {tested[0].subgroup: "the new software version 2"}
    place = locate(tested, scans=100, new_values=words)
    assert place.reason.endswith(
        "its scans alone have the new software version 2; no others came"
    )
