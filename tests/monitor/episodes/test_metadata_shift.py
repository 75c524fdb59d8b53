from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, chi2_contingency, chisquare, hypergeom

from monitor.episodes.metadata_shift import (
    ABSENT,
    DEALS,
    LEVEL,
    AttributeShift,
    metadata_shifts,
)
from monitor.subgroups import Attribute
from monitor.tables import ScanRow
from registry.errors import InsufficientDataError

REPOSITORY = Path(__file__).parents[3]
PROTOCOL = Attribute.PROTOCOL
_NUMBERS = count()


def scan(*, patient: str | None = None, **attributes: object) -> ScanRow:
    """Return a scan, of a patient of its own unless one is given."""
    number = next(_NUMBERS)
    known = {"site": "north", "instance": f"instance-{number}", **attributes}
    return ScanRow(patient=patient or f"patient-{number}", **known)


def scans(attribute: Attribute, counts: dict[str | None, int]) -> list[ScanRow]:
    return [scan(**{attribute.value: value}) for value, n in counts.items() for _ in range(n)]


def shift_of(
    before: dict[str | None, int], now: dict[str | None, int], *, seed: int = 0
) -> AttributeShift:
    (found,) = metadata_shifts(
        scans(PROTOCOL, before), scans(PROTOCOL, now), [PROTOCOL], seed=seed
    )
    return found


def test_with_many_patients_the_p_value_is_that_of_the_two_sample_chi_square_test() -> None:
    before, now = [2600, 1500, 900], [485, 340, 175]
    oracle = float(chi2_contingency([before, now], correction=False).pvalue)
    assert 0.02 < oracle < 0.2
    found = shift_of(dict(zip("abc", before, strict=True)), dict(zip("abc", now, strict=True)))
    assert abs(found.p_value - oracle) <= 4.0 * np.sqrt(oracle * (1 - oracle) / DEALS)


@pytest.mark.parametrize(("before", "now"), [(1, 3), (0, 2), (4, 4), (2, 0)])
def test_with_few_patients_the_p_value_is_that_of_all_ways_to_deal_them_out(
    before: int, now: int
) -> None:
    reference, shifted = 14, 9
    ways = np.arange(max(0, before + now - reference), min(shifted, before + now) + 1)
    share = hypergeom(reference + shifted, before + now, shifted).pmf(ways)
    off = np.abs(ways - shifted * (before + now) / (reference + shifted))
    observed = off[ways == now]
    exact = float(share[off >= observed - 1e-9].sum())
    found = shift_of(
        {"a": before, "b": reference - before}, {"a": now, "b": shifted - now}, seed=3
    )
    assert abs(found.p_value - exact) <= 4.0 * np.sqrt(exact * (1 - exact) / DEALS) + 1 / DEALS


def test_evidentlys_chi_square_is_scipys_against_the_references_shares() -> None:
    from monitor.episodes.metadata_shift import _by_evidently

    before, now = np.array([60, 25, 15]), np.array([20, 14, 6])
    p = _by_evidently("chisquare", before, now)
    assert p == pytest.approx(float(chisquare(now, before * now.sum() / before.sum()).pvalue))


def test_the_distance_is_jensen_shannons_between_nothing_and_all() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    m = (p + q) / 2
    paper = np.sqrt((np.sum(p * np.log2(p / m)) + np.sum(q * np.log2(q / m))) / 2)  # Lin 1991
    found = shift_of({"a": 50, "b": 30, "c": 20}, {"a": 20, "b": 30, "c": 50})
    assert found.distance == pytest.approx(float(paper), rel=1e-12)
    assert shift_of({"a": 5, "b": 10}, {"a": 10, "b": 20}).distance == 0.0
    assert shift_of({"a": 9, "b": 9}, {"c": 9}).distance == pytest.approx(1.0)


def _null(rng: np.random.Generator, n: int) -> list[ScanRow]:
    """Return scans whose scanners stand one inside the other, many of them rare."""
    stations = rng.choice(25, p=_STATION_SHARES, size=n)
    return [
        scan(
            station=f"s{station}",
            scanner_model=f"m{station // 3}",
            manufacturer=f"f{station // 9}",
            sex=rng.choice(["F", "M", None], p=[0.47, 0.47, 0.06]),
            patient=f"p{rng.integers(10**9)}",
        )
        for station in stations
    ]


_STATION_SHARES = 0.8 ** np.arange(25) / np.sum(0.8 ** np.arange(25))
_NESTED = (Attribute.STATION, Attribute.SCANNER_MODEL, Attribute.MANUFACTURER, Attribute.SEX)


@pytest.mark.slow
def test_without_a_change_false_alarms_stay_within_the_level() -> None:
    rng = np.random.default_rng(11)
    rounds = 150
    alarms = below = 0
    for seed in range(rounds):
        found = metadata_shifts(_null(rng, 150), _null(rng, 60), _NESTED, seed=seed)
        alarms += any(one.differs for one in found)
        below += found[0].p_value <= LEVEL
    most = binom.ppf(0.999, rounds, LEVEL)
    assert alarms <= most
    # Nor is it idle: many rare stations alone give a p-value at the level as often as it says.
    assert binom.ppf(0.001, rounds, LEVEL) <= below <= most


def test_a_new_value_in_few_patients_is_not_called_impossible() -> None:
    # To Evidently alone it is: the reference's share is 0, and so is its p-value.
    found = shift_of({"chest": 200}, {"chest": 39, "thorax": 1})
    assert found.p_value == pytest.approx(40 / 240, abs=4 * np.sqrt(0.14 / DEALS))
    assert found.risen == (("thorax", 0.0, 1 / 40),)
    assert not found.differs


def test_a_change_is_named_with_the_values_that_moved_furthest() -> None:
    found = shift_of(
        {"a": 70, "b": 10, "c": 10, "d": 6, "e": 4},
        {"a": 10, "b": 34, "c": 25, "d": 16, "e": 14, "f": 1},
    )
    assert found.p_value == 1 / (1 + DEALS)
    assert found.risen == (("b", 0.10, 0.34), ("c", 0.10, 0.25), ("d", 0.06, 0.16))
    assert found.fallen == (("a", 0.70, 0.10),)
    assert found.differs
    assert found.words() == (
        "protocol differs from the reference: a 70% → 10%, b 10% → 34%, c 10% → 25% "
        f"(p = 0.0005, distance {found.distance:.2f} of 1, 100 patients)"
    )


def test_an_attribute_that_vanishes_is_a_change() -> None:
    found = shift_of({"a": 60, "b": 40}, {None: 30})
    assert found.differs
    assert found.risen == ((ABSENT, 0.0, 1.0),)
    assert "(absent) 0% → 100%" in found.words()


def test_a_value_that_is_called_absent_is_not_taken_for_none() -> None:
    found = shift_of({ABSENT: 50, "a": 50}, {None: 50, "a": 50})
    assert found.differs
    assert found.risen == ((ABSENT, 0.0, 0.5),)
    assert found.fallen == ((ABSENT, 0.5, 0.0),)


def test_what_is_as_before_is_said_to_be_no_more_than_that() -> None:
    found = shift_of({"a": 60, "b": 40}, {"a": 19, "b": 11})
    assert not found.differs
    assert found.words() == (
        "protocol: no difference from the reference shown by 30 patients "
        f"(p = {found.adjusted_p_value:.2g})"
    )


def test_shares_beside_nothing_and_all_are_not_rounded_to_them() -> None:
    found = shift_of({"a": 998, "b": 2}, {"a": 100, "b": 300})
    assert "b <1% → 75%, a >99% → 25% (" in found.words()


def _of_patients(values: Sequence[str], *, scans_each: int, name: str) -> list[ScanRow]:
    return [
        scan(patient=f"{name}-{number}", protocol=value)
        for number, value in enumerate(values)
        for _ in range(scans_each)
    ]


def test_ten_scans_of_each_patient_say_no_more_than_one() -> None:
    before, now = ["a"] * 12 + ["b"] * 12, ["a"] * 8 + ["b"] * 4
    once, often = (
        metadata_shifts(
            _of_patients(before, scans_each=each, name="r"),
            _of_patients(now, scans_each=each, name="s"),
            [PROTOCOL],
        )
        for each in (1, 10)
    )
    assert once == often
    assert once[0].reference_patients == 24


def test_a_pseudonym_that_two_sites_share_is_two_patients() -> None:
    both = [scan(patient="p", site=site, protocol="a") for site in ("north", "south")]
    (found,) = metadata_shifts(both, both[:1], [PROTOCOL])
    assert (found.reference_patients, found.shifted_patients) == (2, 1)


def _pairs(patients: int, *, first: str, second: str, name: str) -> list[ScanRow]:
    return [
        scan(patient=f"{name}-{number}", instance=f"{name}-{number}-{view}", view=view)
        for number in range(patients)
        for view in (first, second)
    ]


def test_neither_the_order_of_scans_nor_a_view_that_always_comes_first_makes_a_change() -> None:
    reference = _pairs(200, first="PA", second="LL", name="r")
    shifted = _pairs(100, first="LL", second="PA", name="s")
    (found,) = metadata_shifts(reference, shifted, [Attribute.VIEW])
    assert not found.differs
    assert found.distance < 0.2
    assert metadata_shifts(reference[::-1], shifted[::-1], [Attribute.VIEW]) == (found,)


def test_a_view_that_came_second_and_stops_is_a_change() -> None:
    reference = _pairs(100, first="PA", second="LL", name="r")
    shifted = [scan(patient=f"s-{number}", view="PA") for number in range(40)]
    (found,) = metadata_shifts(reference, shifted, [Attribute.VIEW])
    assert found.differs
    assert found.fallen[0][0] == "LL"


def test_p_values_are_adjusted_over_the_attributes_that_can_differ() -> None:
    before = [scan(sex=s, view="PA", protocol=p) for s, p in [("F", "x"), ("M", "y")] * 40]
    now = [scan(sex="F", view="PA", protocol=p) for p in ["x", "y"] * 20]
    sex, view, protocol = metadata_shifts(
        before, now, [Attribute.SEX, Attribute.VIEW, Attribute.PROTOCOL, Attribute.SEX]
    )
    assert sex.adjusted_p_value == pytest.approx(2 * sex.p_value)
    assert (view.p_value, view.adjusted_p_value, view.distance) == (1.0, 1.0, 0.0)
    assert view.risen == view.fallen == ()
    assert protocol.p_value == protocol.adjusted_p_value == 1.0
    alone = metadata_shifts(before, now, [Attribute.SEX])
    assert alone[0].p_value == sex.p_value


def test_ages_are_compared_by_their_bands() -> None:
    before = [scan(age_years=years) for years in (5, 30, 50, 70) * 20]
    now = [scan(age_years=5) for _ in range(40)]
    (found,) = metadata_shifts(before, now, [Attribute.AGE_BAND])
    assert found.risen == (("0-17", 0.25, 1.0),)
    assert found.words().startswith("age band differs from the reference: 0-17 25% → 100%")


def test_a_side_without_scans_is_refused_by_name() -> None:
    some = scans(PROTOCOL, {"a": 3})
    with pytest.raises(InsufficientDataError, match="scans of the reference"):
        metadata_shifts([], some, [PROTOCOL])
    with pytest.raises(InsufficientDataError, match="scans of the shift"):
        metadata_shifts(some, [], [PROTOCOL])
    assert metadata_shifts(some, some, []) == ()


def test_the_document_is_json_and_says_everything() -> None:
    found = shift_of({"a": 9, "b": 1}, {"a": 1, "b": 9})
    assert json.loads(json.dumps(found.to_dict())) == {
        "attribute": "protocol",
        "p_value": found.p_value,
        "adjusted_p_value": found.adjusted_p_value,
        "distance": found.distance,
        "risen": [{"value": "b", "before": 0.1, "now": 0.9}],
        "fallen": [{"value": "a", "before": 0.9, "now": 0.1}],
        "reference_patients": 10,
        "shifted_patients": 10,
    }


_WATCHED = """
import sys

seen = []


def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        seen.append((event, arguments[-1]))


sys.addaudithook(watch)
from monitor.episodes.metadata_shift import metadata_shifts
from monitor.subgroups import Attribute
from monitor.tables import ScanRow

assert "evidently" not in sys.modules
assert "pandas" not in sys.modules
a, b = (
    [ScanRow(site="n", patient=f"{p}{i}", instance=f"{p}{i}", sex=s) for i in range(30)]
    for p, s in (("r", "F"), ("s", "M"))
)
(found,) = metadata_shifts(a, b, [Attribute.SEX])
assert found.differs
assert "evidently" in sys.modules
print(*sorted(name for name in sys.modules if name.startswith("evidently.telemetry")))
print(*(event for event in seen if event != ("socket.bind", ("::1", 0))))
"""


def test_evidently_is_loaded_late_and_reaches_neither_its_telemetry_nor_the_network(
    tmp_path: Path,
) -> None:
    # Tracking is left allowed, so that the silence is not the variable's doing. That urllib3
    # asks while it loads whether this machine has IPv6 (a port of ::1, unconnected) is let pass.
    allowed = {key: value for key, value in os.environ.items() if key != "DO_NOT_TRACK"}
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED],
        cwd=REPOSITORY,
        env={**allowed, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    assert list(tmp_path.rglob("*evidently*")) == []
