"""Training on a Ray cluster: the same subprocess, on whichever node has room for it.

Nodes need Driftward installed, and no file system in common: the folder goes
there as an archive. Progress and checkpoints come back while it trains, so
that a node that is lost costs one epoch, and the result at the end. Ray moves
what it is given between its own processes in its own format; what this module
reads of it is bytes alone, and archives are unpacked within their folder.
"""

from __future__ import annotations

import io
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from registry.errors import SetupError, TrainingFailedError
from retrain import workspace
from retrain.executors.executor import POLL_SECONDS
from retrain.executors.local import LocalExecutor

#: Progress so far, the number of the newest archive of checkpoints, and that where it is new.
_News: TypeAlias = "tuple[bytes, int, bytes | None]"

#: What a run's folder is given; it stays where it is.
_INPUTS = (
    workspace.JOB,
    workspace.PIXELS,
    workspace.TARGETS,
    workspace.ROLES,
    workspace.SHIFTED,
)
_STAYS = (*_INPUTS, workspace.PROGRESS)


class RayExecutor:
    """Trains on a Ray cluster.

    Parameters
    ----------
    address : of the cluster's head, "host:port"; "auto" finds one on this machine
    environment : of the training process
    gpus : asked of the node
    """

    def __init__(self, address: str, environment: Mapping[str, str], *, gpus: float) -> None:
        self._address = address
        self._environment = dict(environment)
        self._gpus = gpus

    def train(self, folder: Path, *, tell: Callable[[], None]) -> None:
        """Run the job on a node to its end; see `Executor`."""
        job = workspace.read_job(folder)
        content = _packed(folder)
        base = _packed(Path(job.base))
        with _connected(self._address) as ray:
            mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
            remote = ray.remote(num_cpus=job.threads, num_gpus=self._gpus, max_retries=0)(
                train_on_node
            )
            task = remote.remote(content, base, self._environment, mailbox)
            try:
                _follow(ray, task, mailbox, folder, tell=tell)
                result: bytes | str = ray.get(task)
            except ray.exceptions.RayError as error:
                raise TrainingFailedError(
                    f"training on Ray at {self._address} ended: {type(error).__name__}; the "
                    f"folder {folder.name} is kept, and goes on from its last checkpoint"
                ) from error
        if isinstance(result, str):
            raise TrainingFailedError(result)
        _unpack_beside(result, folder)
        tell()


def _follow(
    ray: Any, task: Any, mailbox: Any, folder: Path, *, tell: Callable[[], None]
) -> None:
    """Collect what a task makes until it has ended; end it where telling is what failed."""
    newest = 0
    try:
        while not ray.wait([task], timeout=POLL_SECONDS)[0]:
            newest = _collect(ray.get(mailbox.after.remote(newest)), folder)
            tell()
    except BaseException:
        # Ray aborts this very process if a task is cancelled while its result is being
        # noted; one whose result is there already is not to be touched any more.
        ray.cancel(task, force=True)
        raise


def train_on_node(
    content: bytes, base: bytes, environment: Mapping[str, str], mailbox: Any
) -> bytes | str:
    """Train on this node, and return what was made as an archive, or why it failed.

    Parameters
    ----------
    content : the run's folder, an archive
    base : the bundle to start from, an archive
    mailbox : handle of the actor that is told how far it is
    """
    with tempfile.TemporaryDirectory(prefix="driftward-ray-") as place:
        folder, bundle = Path(place) / "run", Path(place) / "base"
        _unpack(content, folder)
        _unpack(base, bundle)
        workspace.write_job(folder, replace(workspace.read_job(folder), base=str(bundle)))
        seen: set[str] = set()

        def tell() -> None:
            kept = {str(path.relative_to(folder)) for path in _checkpoints(folder)}
            archive = None
            if kept - seen:
                # One that is replaced while it is read is sent the next time.
                with suppress(FileNotFoundError):
                    archive = _packed(folder, without=_STAYS)
                    seen.update(kept)
            progress = folder / workspace.PROGRESS
            mailbox.put.remote(progress.read_bytes() if progress.exists() else b"", archive)

        try:
            LocalExecutor(environment).train(folder, tell=tell)
        except TrainingFailedError as error:
            return str(error)
        return _packed(folder, without=_INPUTS)


class _Mailbox:
    """Keeps, on the cluster, what a training has written so far."""

    def __init__(self) -> None:
        self._progress = b""
        self._number = 0
        self._archive: bytes | None = None

    def put(self, progress: bytes, archive: bytes | None) -> None:
        self._progress = progress
        if archive is not None:
            self._number, self._archive = self._number + 1, archive

    def after(self, number: int) -> _News:
        return (
            self._progress,
            self._number,
            self._archive if self._number > number else None,
        )


def _collect(news: _News, folder: Path) -> int:
    """Write what came from the node into the folder, and return the number of the newest."""
    progress, number, archive = news
    if archive is not None:
        _unpack_beside(archive, folder)
    if progress:
        workspace.write_whole(folder / workspace.PROGRESS, progress)
    return number


def _checkpoints(folder: Path) -> list[Path]:
    return [
        *folder.glob(f"attempt-*/{workspace.CHECKPOINT}-*"),
        *folder.glob(f"attempt-*/{workspace.RESULT}"),
    ]


def _packed(folder: Path, *, without: Sequence[str] = ()) -> bytes:
    """Return a folder as an archive, without what is being written in it."""
    sink = io.BytesIO()

    def wanted(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(item.name).parts
        hidden = any(part.startswith(".") for part in parts)
        return None if hidden or item.name in without else item

    with tarfile.open(fileobj=sink, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name, filter=wanted)
    return sink.getvalue()


def _unpack(content: bytes, folder: Path) -> None:
    """Put an archive of `_packed` into a new folder: plain files and folders, and none beside it.

    `extractall(filter="data")` says the same, but Python 3.11 has it from 3.11.4 on, and
    Debian 12 has 3.11.2.
    """
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for item in archive:
            target = folder / item.name
            if not (item.isfile() or item.isdir()) or not _lies_in(target, folder):
                raise TrainingFailedError(
                    f"what came back from the cluster has {item.name!r}, which is no file of a run"
                )
            if item.isdir():
                target.mkdir(exist_ok=True)
                continue
            source = archive.extractfile(item)
            if source is not None:  # as it is not of a file
                with source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _unpack_beside(content: bytes, folder: Path) -> None:
    """Put what an archive holds in the place of what the folder has, each part whole."""
    arriving = folder / ".arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    _unpack(content, arriving)
    for part in sorted(arriving.iterdir(), key=lambda path: path.name == workspace.RESULT):
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        part.rename(target)
    arriving.rmdir()


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise SetupError(
            "DRIFTWARD_RAY_ADDRESS is set, and Ray is not installed: install the extra `ray`, or "
            "unset it to train on this machine"
        ) from error
    try:
        _require_open(address)
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, ray.exceptions.RayError) as error:
        raise SetupError(
            f"no Ray cluster answers at {address}: start one (`ray start --head`), correct "
            "DRIFTWARD_RAY_ADDRESS, or unset it to train on this machine"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_open(address: str) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            pass
