"""How far readers agree beyond chance.

Where every reader always says the same, nothing is left for chance to explain, and both are
undefined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from registry.errors import BadInputError, InsufficientDataError

Integers = npt.NDArray[np.int64]


def cohen_kappa(table: Integers) -> float | None:
    """Return Cohen's kappa of two readers, or None where it is undefined.

    Cohen (1960), Educational and Psychological Measurement 20:37-46.

    Parameters
    ----------
    table : counts, shape [k, k]: what one reader said by what the other said of the same scan

    Raises
    ------
    InsufficientDataError
        If it counts nothing.
    BadInputError
        If it is not square.
    """
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise BadInputError(f"a table of agreement is square, got shape {table.shape}")
    total = int(table.sum())
    if total == 0:
        raise InsufficientDataError(what="scans that both readers labelled", needed=1, got=0)
    observed = float(np.trace(table)) / total
    by_chance = float(table.sum(axis=0) @ table.sum(axis=1)) / total**2
    return _beyond(observed, by_chance)


def fleiss_kappa(counts: Integers) -> float | None:
    """Return Fleiss' kappa of equally many readers a scan, or None where it is undefined.

    Fleiss (1971), Psychological Bulletin 76:378-382.

    Parameters
    ----------
    counts : shape [n, k]: how many readers said class k of scan n

    Raises
    ------
    InsufficientDataError
        If there is no scan, or fewer than two readers.
    BadInputError
        If scans have different numbers of readers.
    """
    scans = counts.shape[0]
    if scans == 0:
        raise InsufficientDataError(what="scans with several readers", needed=1, got=0)
    readers = int(counts[0].sum())
    if np.any(counts.sum(axis=1) != readers):
        raise BadInputError("every scan must have as many readers as the others")
    if readers < 2:
        raise InsufficientDataError(what="readers of each scan", needed=2, got=readers)
    agreeing = float((counts * (counts - 1)).sum()) / (scans * readers * (readers - 1))
    shares = counts.sum(axis=0) / (scans * readers)
    return _beyond(agreeing, float(shares @ shares))


def _beyond(observed: float, by_chance: float) -> float | None:
    if by_chance >= 1.0:
        return None
    return (observed - by_chance) / (1.0 - by_chance)
