"""Which statements tests send to SQLite, and the few tests that send them all to PostgreSQL.

What differs between databases are statements: what they may say, what they find, and how they
fail. So statements are noted while the tests run on SQLite, and on PostgreSQL only as many tests
run as send each once more. A statement is told from others by the place in our code that sends
it, by its shape, by the types of its values, and by whether it found rows, or failed, and how.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import get_ident
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext

_ROOT = Path(__file__).parents[2]
_OURS = tuple(
    f"{_ROOT / package}{os.sep}" for package in ("registry", "monitor", "retrain", "api")
)
#: Opens everybody's transactions: what is sent at the end of one is sent by who opened it.
_TRANSACTIONS = str(_ROOT / "registry" / "database.py")
#: Has a database of its own.
_MLFLOW = f"{os.sep}mlflow{os.sep}"
_TEST = "test: "


class StatementNotes:
    """Notes the statements that the tests of this process, and what it forks, send to SQLite."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        # By lines, so that a forked process has nothing left to write.
        self._file = (folder / f"{os.getpid()}.txt").open("w", buffering=1)
        self._test = ""
        self._noted: set[str] = set()
        #: the threads that write just now
        self._writers: set[int] = set()
        self._listeners = (
            (Engine, "before_cursor_execute", self._sent),
            (Engine, "handle_error", self._failed),
            (Engine, "begin", self._begun),
            (Engine, "commit", self._ended),
            (Engine, "rollback", self._ended),
        )
        for listener in self._listeners:
            event.listen(*listener)
        self._start_process = subprocess.Popen.__init__
        self._watch_processes()

    def close(self) -> None:
        subprocess.Popen.__init__ = self._start_process  # type: ignore[method-assign]
        for listener in self._listeners:
            event.remove(*listener)
        self._file.close()

    def begin(self, test: str) -> None:
        """Note what is sent from now on as sent by a test."""
        self._test = test
        self._noted.clear()
        self._writers.clear()
        self._file.write(f"{_TEST}{test}\n")

    def _sent(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: list[Any] | tuple[Any, ...],
        *_: object,  # the context, and whether it is executed for many rows
    ) -> None:
        place = _place()
        if connection.dialect.name != "sqlite" or place is None:
            return
        rows = parameters if isinstance(parameters, list) else [parameters]
        kinds = sorted({kind.__name__ for kind in map(type, chain.from_iterable(rows))})
        sent = f"{place} {_shape(statement)} {','.join(kinds)}"
        self._note(sent)

        def found(_cursor: object, row: object) -> object:
            cursor.row_factory = None  # one row is enough to know
            self._note(f"{sent} found")
            return row

        cursor.row_factory = found

    def _failed(self, context: ExceptionContext) -> None:
        place = _place()
        if context.dialect.name == "sqlite" and context.statement is not None and place:
            error = type(context.sqlalchemy_exception).__name__
            self._note(f"{place} {_shape(context.statement)} {error}")

    def _begun(self, connection: Connection) -> None:
        """Note that threads write at once: how they wait for each other is no other test's."""
        if not connection.get_execution_options().get("read_only", False):
            self._writers.add(get_ident())
        if len(self._writers) > 1:
            self._note(f"at once in {self._test}")

    def _ended(self, _connection: Connection) -> None:
        self._writers.discard(get_ident())

    def _watch_processes(self) -> None:
        """Note each Python that is started: what it sends is unseen, so it is no other's."""
        start = self._start_process

        def noted(process: Any, words: Any, *others: Any, **more: Any) -> None:
            program = words if isinstance(words, str | Path) else next(iter(words))
            if Path(program).parent == Path(sys.executable).parent:
                self._note(f"a process of {self._test}")
            start(process, words, *others, **more)

        subprocess.Popen.__init__ = noted  # type: ignore[method-assign]

    def _note(self, sent: str) -> None:
        if sent not in self._noted:
            self._noted.add(sent)
            self._file.write(f"{sent}\n")


def fewest_that_send_all(tests: Sequence[str], folder: Path) -> set[str]:
    """Return tests that send all that these tests were noted to send, and those not noted at all.

    The next is always the one that adds most, and the first of several.
    """
    sent = _noted(folder)
    chosen = {test for test in tests if test not in sent}
    covered: set[str] = set()
    left = {test: sent[test] for test in tests if test in sent}
    while left:
        left = {test: more for test, all_of_it in left.items() if (more := all_of_it - covered)}
        if left:
            best = max(left, key=lambda test: len(left[test]))
            chosen.add(best)
            covered |= left.pop(best)
    return chosen


def _noted(folder: Path) -> Mapping[str, set[str]]:
    """Read what each test sent, wherever it ran."""
    sent: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.txt")):
        of_test: set[str] = set()
        for line in path.read_text().splitlines():
            if line.startswith(_TEST):
                of_test = sent.setdefault(line.removeprefix(_TEST), set())
            else:
                of_test.add(line)
    return sent


def _place() -> str | None:
    """Return the line of ours that sends a statement, "tests" for any of them, None for others'."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_OURS) and file != _TRANSACTIONS:
            return f"{file.removeprefix(str(_ROOT))}:{frame.f_lineno}"
        if _MLFLOW in file:
            return None
        frame = frame.f_back
    return "tests"


@lru_cache(maxsize=1 << 14)
def _shape(statement: str) -> str:
    """Return what tells a statement from others: of how many values it lists, the magnitude."""
    shape = re.sub(r"\(\?(, \?)+\)", "(?)", " ".join(statement.split()))
    shape = re.sub(r"(\([^()]*\))(, \1)+", r"\1", shape)
    magnitude = statement.count("?").bit_length() // 4
    return f"{hashlib.blake2b(shape.encode(), digest_size=8).hexdigest()} {magnitude}"
