"""The doctor: looks at an installation and says what is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import packages_distributions

from api.assembly import Driftward
from api.receiving import receiver_settings
from api.settings import Home, Settings
from monitor.receiving.counters import Counted, Counters
from monitor.sources.catalogue import AppliedSource, all_sources, standing_of
from monitor.sources.checking import examine_source
from registry import ledger, outbox
from registry.database import safe_sqlite
from registry.errors import DriftwardError

OUR_PACKAGES = ("registry", "monitor", "retrain", "api")
DISTRIBUTION = "driftward"
LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that fails stops none of the others."""
    return list(_findings(settings))


def foreign_owners() -> dict[str, list[str]]:
    """Return our package names that another installed distribution owns, too."""
    owners = packages_distributions()
    return {
        name: [owner for owner in owners.get(name, []) if owner != DISTRIBUTION]
        for name in OUR_PACKAGES
        if any(owner != DISTRIBUTION for owner in owners.get(name, []))
    }


def _findings(settings: Settings) -> Iterator[Finding]:
    foreign = foreign_owners()
    yield Finding(
        check="packages",
        ok=not foreign,
        detail=f"also owned by others: {foreign}" if foreign else "all four are Driftward's",
    )
    yield _try("SQLite", lambda: f"version {safe_sqlite().sqlite_version}")
    yield _try("device", lambda: _device(settings))
    try:
        driftward = Driftward.open(settings)
    except DriftwardError as error:
        yield Finding(check="home", ok=False, detail=str(error))
        return
    yield Finding(check="home", ok=True, detail=str(settings.home))
    yield from _disks(driftward.home)
    yield _try("quarantine", lambda: _quarantine(driftward))
    if settings.text_recognition:
        yield _try("text recognition", _text_recognition)
    yield _try("ledger", lambda: _ledger(driftward))
    yield _try("MLflow", lambda: _mlflow(driftward))
    if driftward.home.receiver.exists():
        yield _try("receiver", lambda: _receiver(driftward))
    with driftward.database.reading() as session:
        sources = all_sources(session)
    for source in sources:
        yield _try(f"source {source.name}", partial(_source, driftward, source))


def _disks(home: Home) -> Iterator[Finding]:
    """Look at each file system that something of the home lies on."""
    seen: set[int] = set()
    for folder in (home.root, home.vault, home.quarantine, home.mlflow):
        if not folder.exists() or (device := folder.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(folder).free
        yield Finding(
            check="disk" if folder == home.root else f"disk of {folder.name}",
            ok=free >= LEAST_FREE_BYTES,
            detail=f"{free / 2**30:.1f} GiB free",
        )


def _try(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check=check, ok=True, detail=look())
    except DriftwardError as error:
        return Finding(check=check, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001 - a doctor reports whatever is wrong
        return Finding(check=check, ok=False, detail=type(error).__name__)


def _device(settings: Settings) -> str:
    import torch

    found = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{settings.device} (found: {found})"


def _quarantine(driftward: Driftward) -> str:
    listing = driftward.quarantine.listing()
    if listing.foreign:
        raise DriftwardError(
            f"{listing.foreign} files in {driftward.home.quarantine} are no items: look at "
            "them there, and remove what does not belong"
        )
    return f"{len(listing.items)} items, the folder is its owner's alone"


def _text_recognition() -> str:
    from monitor.intake.burned_in_text import load_reader, require_engine

    require_engine()
    load_reader()
    return "the engine loads"


def _ledger(driftward: Driftward) -> str:
    with driftward.database.reading() as session:
        found = ledger.verify(session)
    if found.problem is not None:
        raise DriftwardError(found.problem)
    return f"{found.entries} entries verify"


def _mlflow(driftward: Driftward) -> str:
    with driftward.database.reading() as session:
        untold = outbox.backlog(session)
    waits = "it knows everything" if untold is None else str(untold)
    try:
        driftward.tracking.ping()
    except DriftwardError as error:
        raise DriftwardError(f"{error}; {waits}") from error
    if untold is not None and untold.error is not None:
        raise DriftwardError(f"answers now; {waits}")
    return f"answers; {waits}"


def _receiver(driftward: Driftward) -> str:
    settings = receiver_settings(driftward.home.receiver, {})
    if settings.tls is not None:
        settings.tls.context()
    where = f"{settings.title} on {settings.host}:{settings.port}, {len(settings.peers)} peers"
    counters = Counters.of_running(driftward.home.receiver_counters)
    if counters is None:
        return f"{where}; does not run now (`driftward receive`, or `driftward up`)"
    counts = counters.totals().counts
    return f"{where}; runs, {counts[Counted.OPEN_ASSOCIATIONS]} associations open"


def _source(driftward: Driftward, source: AppliedSource) -> str:
    found = examine_source(source.specification)
    with driftward.database.reading() as session:
        standing = standing_of(session, source.name)
    if standing.failing_since is not None:
        raise DriftwardError(
            f"{found}; answers now, and its follower failed last: {standing.last_error}"
        )
    waiting = "" if standing.backlog is None else f"; {standing.backlog} not yet read"
    return found + waiting
