"""Whether what scans say of themselves is distributed as in the reference: scanner, sex, view, ….

Evidently does the test (Pearson's chi-square) and the distance (Jensen–Shannon), imported
where they are first used: it takes seconds to load. Its p-value takes the shares that it
compares with for known, and is 0 as soon as a value is new. So the scans are compared with
those of both sides together, and Evidently's p-value is a statistic here, whose null is drawn
by dealing the patients out to the two sides anew. That holds for rare values and many of them.

Patients are the unit, as everywhere: each counts once on either side, with one of its scans.
Which one is drawn by a digest of the scan's identity. The first to arrive would be the same
view of nearly every study, and a router that sends in another order would look like a change.

Ordinary weeks differ in their mix, too, and a small p-value does not rule that out; so the
distance and the shares stand beside it.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.evaluation import benjamini_hochberg
from monitor.subgroups import Attribute, value_of
from monitor.tables import ScanRow
from registry.canonical import Json
from registry.errors import InsufficientDataError

#: An attribute differs if its adjusted p-value is at most this.
LEVEL = 0.05
#: What an absent value is called; it is a value like any other, since one may vanish.
ABSENT = "(absent)"
#: How often the patients are dealt out anew; the smallest p-value is 1 / (1 + DEALS).
DEALS = 1999
#: How many values that rose, and how many that fell, are named.
NAMED = 3
#: Of p-values: two deals with equal counts differ in their last bits only.
_TIES = 1e-9
#: The Jensen–Shannon distance, in natural logarithms, of shares with no value in common.
_APART = math.sqrt(math.log(2.0))

#: Value, share of the reference's patients, share of the shifted ones.
ShareChange: TypeAlias = tuple[str, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeShift:
    """One attribute's values in the reference, and where the shift is."""

    attribute: Attribute
    #: of no difference, by Evidently's chi-square over patients dealt out anew
    p_value: float
    #: over the attributes that were compared
    adjusted_p_value: float
    #: Jensen–Shannon, by Evidently: 0 where the shares are equal, 1 where no value is in both
    distance: float
    #: values whose share rose most, the furthest first
    risen: tuple[ShareChange, ...]
    #: values whose share fell most, the furthest first
    fallen: tuple[ShareChange, ...]
    #: who was compared with whom
    reference_patients: int
    shifted_patients: int

    @property
    def differs(self) -> bool:
        return self.adjusted_p_value <= LEVEL

    def words(self) -> str:
        """Return the finding in one sentence."""
        name = self.attribute.value.replace("_", " ")
        p = f"p = {self.adjusted_p_value:.2g}"
        if not self.differs:
            return (
                f"{name}: no difference from the reference shown "
                f"by {self.shifted_patients} patients ({p})"
            )
        moved = sorted((*self.risen, *self.fallen), key=_closeness)
        changes = ", ".join(
            f"{value} {_percent(before)} → {_percent(now)}"
            for value, before, now in moved[:NAMED]
        )
        return (
            f"{name} differs from the reference: {changes} "
            f"({p}, distance {self.distance:.2f} of 1, {self.shifted_patients} patients)"
        )

    def to_dict(self) -> dict[str, Json]:
        return {
            "attribute": self.attribute.value,
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
            "distance": self.distance,
            "risen": _documents(self.risen),
            "fallen": _documents(self.fallen),
            "reference_patients": self.reference_patients,
            "shifted_patients": self.shifted_patients,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Patients by an attribute's value, on either side."""

    #: of the values that occur
    names: tuple[str, ...]
    #: shape [values]
    reference: npt.NDArray[np.int64]
    shifted: npt.NDArray[np.int64]

    @property
    def varies(self) -> bool:
        return len(self.names) > 1


def metadata_shifts(
    reference: Sequence[ScanRow],
    shifted: Sequence[ScanRow],
    attributes: Sequence[Attribute],
    *,
    seed: int = 0,
) -> tuple[AttributeShift, ...]:
    """Compare attributes of the scans where a shift is with the reference's.

    A patient with scans on both sides counts on both, which makes the test
    careful rather than bold. An attribute with one value only cannot differ;
    it has the p-value 1, and the others are not adjusted for it.

    Parameters
    ----------
    attributes : what to compare; one by which the shifted scans were chosen differs of course
    seed : of the deals; an attribute's p-value does not depend on which others are compared

    Returns
    -------
    tuple of AttributeShift
        One for each attribute, in the order given.

    Raises
    ------
    InsufficientDataError
        If either side has no scan.
    """
    for what, scans in (("reference", reference), ("shift", shifted)):
        if not scans:
            raise InsufficientDataError(what=f"scans of the {what}", needed=1, got=0)
    before, now = _one_scan_per_patient(reference), _one_scan_per_patient(shifted)
    asked = list(dict.fromkeys(attributes))
    tables = [_counts(before, now, attribute) for attribute in asked]
    found = [
        _compare(table, np.random.default_rng([seed, list(Attribute).index(attribute)]))
        if table.varies
        else (1.0, 0.0)
        for attribute, table in zip(asked, tables, strict=True)
    ]
    tested = [index for index, table in enumerate(tables) if table.varies]
    adjusted = dict(
        zip(tested, benjamini_hochberg([found[index][0] for index in tested]), strict=True)
    )
    return tuple(
        AttributeShift(
            attribute=attribute,
            p_value=p_value,
            adjusted_p_value=adjusted.get(index, 1.0),
            distance=distance,
            risen=_moved(table, up=True),
            fallen=_moved(table, up=False),
            reference_patients=len(before),
            shifted_patients=len(now),
        )
        for index, (attribute, table, (p_value, distance)) in enumerate(
            zip(asked, tables, found, strict=True)
        )
    )


def _one_scan_per_patient(scans: Sequence[ScanRow]) -> list[ScanRow]:
    """Return one scan of each patient, the same whatever the order they come in."""
    chosen: dict[tuple[str, str], tuple[bytes, ScanRow]] = {}
    for scan in scans:
        digest = blake2b(f"{scan.site}\0{scan.instance}".encode(), digest_size=16).digest()
        patient = scan.site, scan.person
        held = chosen.get(patient)
        if held is None or digest < held[0]:
            chosen[patient] = digest, scan
    return [scan for _, scan in chosen.values()]


def _counts(
    reference: Sequence[ScanRow], shifted: Sequence[ScanRow], attribute: Attribute
) -> _Counts:
    before = Counter(value_of(scan, attribute) for scan in reference)
    now = Counter(value_of(scan, attribute) for scan in shifted)
    values = sorted(before.keys() | now.keys(), key=lambda value: (value is None, value or ""))
    return _Counts(
        names=tuple(ABSENT if value is None else value for value in values),
        reference=np.array([before[value] for value in values], dtype=np.int64),
        shifted=np.array([now[value] for value in values], dtype=np.int64),
    )


def _compare(table: _Counts, rng: np.random.Generator) -> tuple[float, float]:
    """Return the p-value of no difference and the distance; needs two values or more.

    With the patients dealt out anew, the shifted side's counts are multivariate
    hypergeometric: the permutation test, for which the counts are enough.
    """
    from scipy.stats import chisquare

    both = table.reference + table.shifted
    patients = int(table.shifted.sum())
    observed = _by_evidently("chisquare", both, table.shifted)
    deals = rng.multivariate_hypergeometric(both, patients, size=DEALS)
    expected = np.broadcast_to(both * (patients / both.sum()), deals.shape)
    drawn = chisquare(deals, expected, axis=1).pvalue  # as Evidently does, all at once
    exceeding = int(np.count_nonzero(drawn <= observed * (1.0 + _TIES)))
    distance = _by_evidently("jensenshannon", table.reference, table.shifted) / _APART
    return (1 + exceeding) / (1 + DEALS), min(1.0, distance)


def _by_evidently(
    name: str, reference: npt.NDArray[np.int64], current: npt.NDArray[np.int64]
) -> float:
    """Return the score of one of Evidently's methods for two rows of counts, [values] each.

    It gets numbers for values: to it, a missing value is no value, and the sums
    then disagree. Its telemetry stands in `evidently.telemetry`, which its server
    loads and this road does not; and nothing here reaches the network.
    """
    import pandas as pd

    with warnings.catch_warnings():
        # It asks NumPy for a module by a former name while it loads.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.legacy.calculations.stattests import get_stattest
        from evidently.legacy.core import ColumnType

    before, now = (
        pd.Series(np.repeat(np.arange(len(counts)), counts)) for counts in (reference, current)
    )
    kind = ColumnType.Categorical
    method: Any = get_stattest(before, now, kind, name)
    return float(method(before, now, kind, None).drift_score)


def _moved(table: _Counts, *, up: bool) -> tuple[ShareChange, ...]:
    before = table.reference / table.reference.sum()
    now = table.shifted / table.shifted.sum()
    changes = zip(table.names, before.tolist(), now.tolist(), strict=True)
    moved = [
        change for change in changes if (change[2] > change[1] if up else change[2] < change[1])
    ]
    return tuple(sorted(moved, key=_closeness)[:NAMED])


def _closeness(change: ShareChange) -> float:
    """Return how little a share moved; the last bits, which would order ties, left out."""
    return -round(abs(change[2] - change[1]), 12)


def _documents(changes: Sequence[ShareChange]) -> list[Json]:
    return [{"value": value, "before": before, "now": now} for value, before, now in changes]


def _percent(share: float) -> str:
    if 0.0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1.0 else f"{share:.0%}"
