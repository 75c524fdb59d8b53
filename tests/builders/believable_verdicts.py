"""Verdicts on subgroups, made up for tests of what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from scipy.special import ndtri

from monitor.localising import SubgroupVerdict
from monitor.profiles import Detection, Verdict
from monitor.statistics.effect import Shift
from monitor.subgroups import Subgroup

ONSET = datetime(2026, 3, 2, tzinfo=UTC)


def verdict(
    p_value: float,
    *,
    effect: float = 0.5,
    smallest_effect: float = 0.3,
    scans: int = 100,
    statistic: float | None = None,
) -> Verdict:
    """Return a verdict; its detector's statistic is as large as its p-value is small."""
    if statistic is None:
        statistic = float(ndtri(1.0 - p_value))
    detection = Detection(p_value=p_value, statistic=statistic, effect=0.1)
    return Verdict(
        p_value=p_value,
        week_p_value=None,
        detectors={"whitened-mean-all": detection},
        leading="whitened-mean-all",
        effect=Shift(value=effect, low=0.8 * effect, high=1.2 * effect),
        ordinary_effect=None,
        smallest_effect=smallest_effect,
        alpha=0.05,
        scans=scans,
        patients=scans,
        subsampled=False,
        seed=0,
    )


def subgroup_verdict(
    subgroup: str,
    scans: Iterable[int],
    p_value: float,
    *,
    effect: float = 0.5,
    smallest_effect: float = 0.3,
    statistic: float | None = None,
) -> SubgroupVerdict:
    """Return a verdict on a subgroup whose p-value is adjusted already."""
    members = frozenset(scans)
    return SubgroupVerdict(
        subgroup=Subgroup.parse(subgroup),
        scans=members,
        verdict=verdict(
            p_value,
            effect=effect,
            smallest_effect=smallest_effect,
            scans=len(members),
            statistic=statistic,
        ),
        profile_digest="profile",
        compared_with=None,
        adjusted_p_value=p_value,
        persistence_p_value=p_value,
        adjusted_persistence_p_value=p_value,
        onset=ONSET,
    )
