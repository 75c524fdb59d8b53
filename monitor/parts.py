"""Which parts of a table a question is about, where the tables that grow by scan are in parts.

On PostgreSQL they are (docs/decisions/0026), by ranges of scans. A join to scans of some time
names no part: the planner then reckons that each part is searched for each scan, and would
rather read them all. The range of those scans' numbers, said beside the join, leaves the parts
that hold them.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from monitor.tables import ScanRow


def of_arrivals(
    session: Session,
    *columns: InstrumentedAttribute[int],
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[ColumnElement[bool], ...]:
    """Return conditions on columns that number scans, true of all that arrived in a time.

    They leave nothing out, so that they may be added to any question about the scans of
    [since, until); None is without an end. On a database without parts there are none.
    """
    if session.get_bind().dialect.name != "postgresql":
        return ()
    # By itself, min(id) would be looked for along the ids, from the oldest scan on.
    number = ScanRow.id + 0
    bounds = select(func.coalesce(func.min(number), 0), func.coalesce(func.max(number), -1))
    if since is not None:
        bounds = bounds.where(ScanRow.arrived_at >= since)
    if until is not None:
        bounds = bounds.where(ScanRow.arrived_at < until)
    lowest, highest = session.execute(bounds).one()
    return tuple(column.between(lowest, highest) for column in columns)
