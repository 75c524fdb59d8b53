"""Progress on stderr: a bar where a person watches, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: Told how much is done, out of how much.
Tell: TypeAlias = Callable[[int, int], None]


@contextmanager
def progress_bar(what: str) -> Iterator[Tell]:
    """Show a bar under the name `what` until the block ends."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield tell


def _silent(_done: int, _total: int) -> None:
    return
