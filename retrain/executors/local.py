"""Training in a subprocess of the worker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from registry.errors import TrainingFailedError
from retrain.executors.executor import ERRORS, POLL_SECONDS, last_line


class LocalExecutor:
    """Trains in a process of its own, which ends with the call."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    def train(self, folder: Path, *, tell: Callable[[], None]) -> None:
        """Run the subprocess to its end; see `Executor`."""
        errors = folder / ERRORS
        with errors.open("wb") as sink:
            process = subprocess.Popen(  # noqa: S603 - our own module, our own folder
                [sys.executable, "-m", "retrain.trainer", str(folder)],
                stdout=subprocess.DEVNULL,
                stderr=sink,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )
            try:
                while process.poll() is None:
                    time.sleep(POLL_SECONDS)
                    tell()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        tell()
        if process.returncode != 0:
            raise TrainingFailedError(
                f"training stopped with exit code {process.returncode}: {last_line(errors)}; "
                f"the folder {folder.name} is kept"
            )
