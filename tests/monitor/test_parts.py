from __future__ import annotations

import json
from datetime import datetime, timedelta

from databases import on_each_database
from sealed_examples import row_of
from sqlalchemy import insert, select, text

from monitor import parts
from monitor.tables import EmbeddingRow, ScanRow
from registry.database import Database

MILLION = 1_000_000


def fill(database: Database, now: datetime) -> None:
    """Store scans that arrive hour by hour, and whose numbers lie far apart."""
    with database.transaction() as session:
        for hour in range(6):
            scan = row_of(ScanRow.__table__, now + timedelta(hours=hour))
            scan |= {"id": 1 + hour * MILLION, "instance": str(hour)}
            session.execute(insert(ScanRow).values(scan))


@on_each_database
def test_nothing_that_arrived_is_left_out_and_other_parts_are_not_read(
    database: Database, now: datetime
) -> None:
    fill(database, now)
    since, until = now + timedelta(hours=2), now + timedelta(hours=4)
    with database.reading() as session:
        for given, hours in (
            ({"since": since, "until": until}, {2, 3}),
            ({"since": since}, {2, 3, 4, 5}),
            ({"until": until}, {0, 1, 2, 3}),
            ({"since": now + timedelta(days=1)}, set()),
        ):
            bounded = parts.of_arrivals(session, ScanRow.id, **given)
            if database.engine.dialect.name == "sqlite":
                assert bounded == ()
                continue
            found = session.scalars(select(ScanRow.id).where(*bounded))
            assert {(number - 1) // MILLION for number in found} == hours
            conditions = parts.of_arrivals(session, EmbeddingRow.scan, **given)
            query = select(EmbeddingRow.vector).where(*conditions)
            plan = session.scalar(
                text(
                    "EXPLAIN (FORMAT JSON) "
                    + str(
                        query.compile(
                            session.get_bind(), compile_kwargs={"literal_binds": True}
                        )
                    )
                )
            )
            read = {
                start for start in range(13) if f"embeddings_from_{start}m" in json.dumps(plan)
            }
            # The part from 4 million on holds 5 million, too.
            assert read == {min(hour, 4) for hour in hours}
