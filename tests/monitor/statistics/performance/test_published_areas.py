"""DeLong's areas and tests against figures that two independent programs publish or give.

The scans are 113 patients with an aneurysmal subarachnoid haemorrhage, 41 of them with a poor
outcome (Turck et al. 2010, Intensive Care Medicine 36:107-115), on whom the R package pROC (Robin
et al. 2011, BMC Bioinformatics 12:77) shows its methods. Of three markers the order of patients
is kept, which is all that an area depends on: equal numbers are ties.
"""

import numpy as np
import pytest

from monitor.statistics.performance.discrimination import auc, compare_aucs, estimate_auc

POOR_OUTCOME = np.arange(113) < 41
MARKERS = {
    name: np.array([int(level) for level in text.split()])
    for name, text in {
        "wfns": (
            "5 3 7 9 9 9 9 3 9 3 1 3 9 7 7 3 9 9 9 3 9 3 9 3 7 9 7 7 1 7 7 3 3 9 9 3 3 9 9 9 "
            "9 1 1 1 1 9 1 3 3 1 3 3 1 1 1 3 1 3 1 1 5 7 1 7 1 9 9 1 1 3 7 1 1 3 3 1 3 1 3 3 "
            "1 1 1 1 3 1 3 1 1 5 3 7 3 1 7 1 1 9 7 3 3 1 1 1 5 1 3 3 7 7 1 1 1 "
        ),
        "s100b": (
            "13 9 19 12 36 42 40 3 29 7 3 34 32 39 42 24 42 42 42 3 42 26 0 7 22 42 24 42 5 "
            "24 13 9 11 22 42 15 42 27 42 42 36 13 15 9 1 37 21 9 9 1 5 1 7 11 3 21 3 11 13 "
            "21 1 19 15 31 7 41 37 19 3 35 37 11 5 7 5 1 13 9 15 17 1 1 7 1 7 5 19 7 5 29 11 "
            "25 3 9 27 3 1 23 33 9 17 5 15 9 3 1 21 17 37 21 17 41 39 "
        ),
        "ndka": (
            "42 26 32 40 4 10 20 48 52 48 48 16 36 44 6 8 34 2 56 44 18 20 24 34 46 29 44 8 "
            "54 39 4 13 44 4 12 48 22 36 50 20 40 1 9 7 19 5 39 5 43 33 43 41 51 11 5 25 5 5 "
            "55 27 15 15 43 3 7 5 13 31 7 37 49 7 5 25 11 7 31 47 45 17 23 53 5 41 15 19 19 "
            "37 3 41 25 11 19 43 19 23 7 15 19 47 9 25 29 49 21 25 11 47 17 35 45 5 33 "
        ),
    }.items()
}


@pytest.mark.parametrize(
    ("marker", "area", "variance"),
    # of pROC: auc and var, by DeLong, as its own tests hold them
    [
        ("wfns", 0.823678861788618, 0.00146991470882363),
        ("s100b", 0.731368563685637, 0.00266868245717244),
        ("ndka", 0.611957994579946, 0.0031908105493913),
    ],
)
def test_areas_and_variances_are_those_of_proc(
    marker: str, area: float, variance: float
) -> None:
    assert auc(MARKERS[marker], POOR_OUTCOME) == pytest.approx(area, rel=1e-12)
    found = estimate_auc(MARKERS[marker], POOR_OUTCOME, level=0.95)
    assert found.standard_error**2 == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "z", "p_two_sided", "interval"),
    # of pROC: roc.test of two correlated curves, by DeLong, as its own tests hold them
    [
        (
            "wfns",
            "s100b",
            2.20898359144091,
            0.0271757822291882,
            (0.0104061769564846, 0.174214419249478),
        ),
        (
            "wfns",
            "ndka",
            2.79777591868904,
            0.00514557970691098,
            (0.0634011709339876, 0.3600405634833566),
        ),
        (
            "ndka",
            "s100b",
            -1.39077002573558,
            0.164295175223054,
            (-0.2876917446341914, 0.0488706064228094),
        ),
    ],
)
def test_comparisons_are_those_of_proc(
    first: str, second: str, z: float, p_two_sided: float, interval: tuple[float, float]
) -> None:
    # pROC takes the second from the first.
    found = compare_aucs(MARKERS[second], MARKERS[first], POOR_OUTCOME, level=0.95)
    assert found.estimate / found.standard_error == pytest.approx(z, rel=1e-10)
    p_greater = found.p_greater(0.0)
    assert 2 * min(p_greater, 1 - p_greater) == pytest.approx(p_two_sided, rel=1e-9)
    assert (found.interval.low, found.interval.high) == pytest.approx(interval, rel=1e-9)


def test_the_one_sided_p_value_is_that_of_proc() -> None:
    found = compare_aucs(MARKERS["s100b"], MARKERS["wfns"], POOR_OUTCOME, level=0.95)
    assert found.p_greater(0.0) == pytest.approx(0.0135878911145941, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "z", "p_two_sided"),
    # MLstatkit 0.1.91, Delong_test
    [
        ("wfns", "s100b", -2.208983591440902, 0.027175782229188532),
        ("wfns", "ndka", -2.797775918689036, 0.005145579706911016),
        ("ndka", "s100b", 1.390770025735577, 0.1642951752230546),
    ],
)
def test_comparisons_are_those_of_mlstatkit(
    first: str, second: str, z: float, p_two_sided: float
) -> None:
    found = compare_aucs(MARKERS[first], MARKERS[second], POOR_OUTCOME, level=0.95)
    assert found.estimate / found.standard_error == pytest.approx(z, rel=1e-9)
    p_greater = found.p_greater(0.0)
    assert 2 * min(p_greater, 1 - p_greater) == pytest.approx(p_two_sided, rel=1e-8)
