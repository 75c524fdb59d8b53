from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.subgroups import AGE_BANDS, Attribute, Subgroup, subgroups_of, value_of
from monitor.tables import ScanRow
from registry.errors import BadInputError

TERMS = st.lists(
    st.tuples(st.sampled_from(list(Attribute)), st.text(min_size=1)), min_size=1, max_size=3
)


def scan(**attributes: object) -> ScanRow:
    return ScanRow(**attributes)


@given(TERMS)
def test_a_subgroup_is_read_as_it_was_written(terms: list[tuple[Attribute, str]]) -> None:
    subgroup = Subgroup(tuple(terms))
    read = Subgroup.parse(str(subgroup))
    # A value that itself looks like a further term is read as one.
    if not any(f" & {name}=" in value for _, value in terms for name in Attribute):
        assert read == subgroup


@pytest.mark.parametrize("text", ["", "site", "site=", "colour=blue", "site=a & colour"])
def test_what_is_no_subgroup_is_refused_with_the_attributes(text: str) -> None:
    if text == "site=a & colour":
        # The value of one attribute may hold anything.
        assert Subgroup.parse(text).terms == ((Attribute.SITE, "a & colour"),)
        return
    with pytest.raises(BadInputError, match=r"write ATTRIBUTE=VALUE.*software_version"):
        Subgroup.parse(text)


@pytest.mark.parametrize(
    ("years", "band"),
    [(0, "0-17"), (17, "0-17"), (18, "18-39"), (64, "40-64"), (65, "65+"), (120, "65+")],
)
def test_every_age_falls_into_one_band(years: int, band: str) -> None:
    one = scan(age_years=years)
    assert value_of(one, Attribute.AGE_BAND) == band
    assert [b for b in AGE_BANDS if Subgroup.of(Attribute.AGE_BAND, b).holds(one)] == [band]


def test_an_age_that_is_not_known_has_no_band() -> None:
    assert value_of(scan(age_years=None), Attribute.AGE_BAND) is None


def test_an_unknown_age_band_is_refused_by_name() -> None:
    with pytest.raises(BadInputError, match=r"no age band 'old'.*65\+"):
        Subgroup.of(Attribute.AGE_BAND, "old").where()


def test_the_equipments_branches_are_subgroups_beside_every_single_value() -> None:
    scans = [
        scan(site=site, station=station, view=view)
        for site, station in (("a", "1"), ("a", "2"), ("b", "1"))
        for view in ("AP", "PA")
    ]
    found = subgroups_of(scans, [Attribute.SITE, Attribute.STATION, Attribute.VIEW], at_least=2)
    assert {str(name) for name, _ in found} == {
        "site=a",
        "site=b",
        "station=1",
        "station=2",
        "view=AP",
        "view=PA",
        "site=a & station=1",
        # At site b and station 2 the branch holds the same scans as one value alone.
    }
    for name, belongs in found:
        assert belongs == [name.holds(one) for one in scans]
    sizes = [sum(belongs) for _, belongs in found]
    assert sizes == sorted(sizes, reverse=True)


def test_subgroups_below_the_floor_and_scans_without_a_value_are_left_out() -> None:
    scans = [scan(site="a", view="AP"), scan(site="a", view=None), scan(site="b", view="PA")]
    found = subgroups_of(scans, [Attribute.SITE, Attribute.VIEW], at_least=2)
    assert [(str(name), belongs) for name, belongs in found] == [
        ("site=a", [True, True, False])
    ]


def test_a_branch_stands_within_its_stem() -> None:
    branch = Subgroup.parse("site=a & station=1")
    assert branch.within(Subgroup.parse("site=a"))
    assert branch.within(branch)
    assert not Subgroup.parse("site=a").within(branch)
    assert not branch.within(Subgroup.parse("site=b"))
