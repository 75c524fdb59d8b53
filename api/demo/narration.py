"""What the demo says on its screen: plain lines on stderr, and bars where a person watches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from api.progress import Tell
from retrain.workspace import Progress as TrainingProgress

LIMITS = (
    "What this demonstration cannot claim:",
    "- the sources are 28×28 pixels, scaled up before they are written as DICOM;",
    "- the Guangzhou set has no patient identifiers, so each scan counts as a patient of its own;",
    "- all children are of one hospital: the second site and its scanner are simulated;",
    "- so is the software update (tone curve, edge enhancement, noise);",
    "- labels are the data set's own, and approval is given by the demo's own operator;",
    "- nothing here is fit for any clinical use.",
)


class Narrator:
    """Tells the story on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._watched = sys.stderr.isatty()

    def chapter(self, text: str) -> None:
        """Begin a part of the story."""
        self._console.print(f"\n[bold]{text}[/bold]")

    def line(self, text: str) -> None:
        """Say one thing."""
        self._console.print(f"  {text}", markup=False)

    def limits(self) -> None:
        """Say what the demo cannot claim."""
        self._console.print()
        for text in LIMITS:
            self._console.print(text, markup=False, style="dim")

    @contextmanager
    def bar(self, what: str) -> Iterator[Tell]:
        """Show a bar until the block ends; where nobody watches, nothing."""
        if not self._watched:
            yield lambda _done, _total: None
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def training_bar(self) -> Iterator[_TrainingBar]:
        """Show how far a training is, in steps over all epochs."""
        with self.bar("training") as tell:
            yield _TrainingBar(tell)


class _TrainingBar:
    """Turns a run's progress into a bar's."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def __call__(self, _run: int, progress: TrainingProgress) -> None:
        if progress.selection_auc is None:
            done = progress.epoch * progress.steps + progress.step
            self._tell(done, progress.epochs * progress.steps)
