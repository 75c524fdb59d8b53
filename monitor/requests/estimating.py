"""What a request's labels weigh, and which of them measure an impact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.requests.tables import (
    LabelRequestItemRow,
    LabelRequestRow,
    Part,
    RequestState,
)
from monitor.tables import ScanRow
from registry.errors import IntegrityError


def gate_weights(
    session: Session, row: LabelRequestRow, scans: Sequence[ScanRow]
) -> npt.NDArray[np.float64]:
    """Return what each scan of a locked set weighs, float64 [n].

    The inverse of its patient's chance to be drawn *and* read: patients of the stratum over
    those of them who have a label. Within a stratum, whoever could not be read is so taken to
    be like whoever could. A stratum of which nobody was read counts with the one next to it.

    Raises
    ------
    IntegrityError
        If a scan was not drawn for the gates.
    """
    strata = {
        scan: stratum
        for scan, stratum in session.execute(
            select(LabelRequestItemRow.scan, LabelRequestItemRow.stratum).where(
                LabelRequestItemRow.request == row.id,
                LabelRequestItemRow.part == Part.GATE,
            )
        )
        if stratum is not None
    }
    foreign = [scan.id for scan in scans if scan.id not in strata]
    if foreign:
        raise IntegrityError(
            f"scan {foreign[0]} stands in the locked set of run {row.run}, and label request "
            f"{row.id} did not draw it for the gates"
        )
    read = Counter(stratum for _, stratum in {(scan.person, strata[scan.id]) for scan in scans})
    sizes = [int(one["patients"]) for one in row.strata]
    for stratum in range(len(sizes)):
        if read[stratum] == 0:
            near = min(read, key=lambda other: (abs(other - stratum), other))
            sizes[near] += sizes[stratum]
    return np.array([sizes[strata[scan.id]] / read[strata[scan.id]] for scan in scans])


def impact_scans(session: Session, episode: int) -> frozenset[int] | None:
    """Return the scans that measure an episode's impact, or None without a request.

    They are the selection part's: each patient has the same chance there, and none of them
    judges a candidate.
    """
    request = session.scalars(
        select(LabelRequestRow.id)
        .where(
            LabelRequestRow.episode == episode,
            LabelRequestRow.state != RequestState.CANCELLED,
        )
        .order_by(LabelRequestRow.id.desc())
    ).first()
    if request is None:
        return None
    return frozenset(
        session.scalars(
            select(LabelRequestItemRow.scan).where(
                LabelRequestItemRow.request == request,
                LabelRequestItemRow.part == Part.SELECTION,
            )
        )
    )
