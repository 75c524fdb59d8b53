"""Verify, sign and export ledgers of a million entries: seconds, and the most memory.

    python tests/benchmarks/ledger/entries.py [--entries N] [--postgresql]

Entries look like those of a hospital's day: nine in ten without a row of their own, one in ten
seals a row (of models, since that needs no other table). Each ledger is made by bulk inserts
with the ledger's own functions; each measurement runs in a process of its own, whose peak
resident memory is its own alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, text

from registry import ledger
from registry.canonical import jcs_bytes, to_json
from registry.database import Database
from registry.ledger import LedgerEntry, append_only
from registry.ledger.exports import fhir, jsonl, openlineage
from registry.ledger.exports.part import part_of
from registry.ledger.record import Form, sealed_columns
from registry.ledger.record import values_digest as digest_of_row
from registry.ledger.verification import ChainWalk, follow_entries
from registry.versions import ModelRow

RESULTS = Path(__file__).parent / "results" / "entries.jsonl"
START = datetime(2026, 1, 1, tzinfo=UTC)
CHUNK = 10_000
RUNS = 1
SEALED_EVERY = 10


def rows(entries: int) -> Iterator[tuple[dict[str, object], dict[str, object] | None]]:
    """Yield each entry, with the row that it seals, if any."""
    previous = ledger.GENESIS
    columns = sealed_columns(ModelRow)
    for sequence in range(1, entries + 1):
        at = START + timedelta(seconds=7 * sequence)
        body: dict[str, object] = {
            "form": Form.JCS.value,
            "sequence": sequence,
            "at": to_json(at),
            "actor": "driftward",
            "kind": "window.evaluated",
            "subject": "chest-radiographs",
            "facts": {
                "start": to_json(at - timedelta(days=7)),
                "scans": sequence % 977,
                "p_value": 1 / (1 + sequence % 499),
                "alarm": sequence % 211 == 0,
            },
        }
        sealed = None
        if sequence % SEALED_EVERY == 0:
            name = f"model-{sequence}"
            sealed = {"name": name, "tier": "task", "created_at": at}
            values = [sealed[key] for key in columns]
            body["seals"] = {
                f"models/{name}": digest_of_row(ModelRow, columns, values, Form.JCS)
            }
        canonical = jcs_bytes(body)  # type: ignore[arg-type]
        previous = ledger.chain(previous, canonical)
        entry = {
            "sequence": sequence,
            "recorded_at": at,
            "actor": body["actor"],
            "kind": body["kind"],
            "subject": body["subject"],
            "canonical": canonical,
            "digest": previous,
        }
        yield entry, sealed


def fill(database: Database, entries: int) -> None:
    """Write a ledger of so many entries."""
    waiting: list[dict[str, object]] = []
    models: list[dict[str, object]] = []
    with database.transaction() as session:
        tables = append_only.guarded_tables()
        append_only.unguard(session.connection(), tables)
        for entry, sealed in rows(entries):
            waiting.append(entry)
            if sealed is not None:
                models.append(sealed)
            if len(waiting) == CHUNK or entry["sequence"] == entries:
                session.execute(insert(LedgerEntry), waiting)
                session.execute(insert(ModelRow), models)
                session.execute(
                    text("UPDATE ledger_head SET sequence = :sequence, digest = :digest"),
                    {"sequence": entry["sequence"], "digest": entry["digest"]},
                )
                waiting.clear()
                models.clear()
        for table, kind in tables.items():
            append_only.guard(session.connection(), [table], kind)


def measure(what: str, url: str) -> None:
    """Do one thing, and print its seconds and the most memory."""
    database = Database(url)
    began, own = time.perf_counter(), time.process_time()
    with database.reading() as session:
        if what == "chain alone":
            assert follow_entries(session, ChainWalk()) is None
        elif what == "root of a checkpoint":
            assert follow_entries(session, ChainWalk(rooted=True)) is None
        elif what == "chain and sealed rows":
            assert ledger.verify(session, [ModelRow]).fault is None
        else:
            part = part_of(session, since=None, until=None)
            lines = {"jsonl": jsonl, "openlineage": openlineage, "fhir": fhir}[what].lines
            for line in lines(session, part, at=START):
                assert line
    seconds, cpu = time.perf_counter() - began, time.process_time() - own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        json.dumps(
            {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "mebibytes": round(peak)}
        )
        + "\n"
    )


MEASURED = (
    *("chain alone", "chain and sealed rows", "root of a checkpoint"),
    *("jsonl", "openlineage", "fhir"),
)


def best(what: str, url: str) -> dict[str, float]:
    """Return the quickest of some runs, each in a process of its own."""
    found = []
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, __file__, "--measure", what, "--url", url],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        found.append(json.loads(done.stdout))
    return min(found, key=lambda one: one["seconds"])


def keep(backend: str, entries: int, url: str) -> None:
    """Fill a database, measure, and keep the results."""
    database = Database(url)
    database.migrate()
    fill(database, entries)
    database.dispose()
    for what in MEASURED:
        result = {"database": backend, "entries": entries, "what": what, **best(what, url)}
        sys.stderr.write(json.dumps(result) + "\n")
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def report() -> str:
    """Return what was measured as a table."""
    lines = [
        "Seconds by the clock on two cores with nothing else to do, CPU seconds of the "
        "process itself, and its peak memory, libraries included. One entry in ten seals a row. "
        "Goal: a million in 10 s.",
        "",
        "| database | entries | what | seconds | CPU seconds | peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for line in RESULTS.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        lines.append(
            f"| {one['database']} | {one['entries']:,} | {one['what']} | {one['seconds']} "
            f"| {one['cpu']} | {one['mebibytes']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure what still lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--measure")
    parser.add_argument("--url")
    chosen = parser.parse_args()
    if chosen.measure:
        measure(chosen.measure, chosen.url)
        return
    RESULTS.parent.mkdir(exist_ok=True)
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    if '"SQLite"' not in known:
        with tempfile.TemporaryDirectory() as folder:
            keep("SQLite", chosen.entries, f"sqlite:///{folder}/driftward.db")
    if '"PostgreSQL"' not in known:
        sys.path.insert(0, str(Path(__file__).parents[2] / "builders"))
        from running_postgresql import RunningPostgresql

        server = RunningPostgresql(durable=True)
        try:
            server.start()
            keep("PostgreSQL", chosen.entries, server.empty())
        finally:
            server.stop()
    sys.stdout.write(report() + "\n")


if __name__ == "__main__":
    main()
