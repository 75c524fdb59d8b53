"""Keeping the quarantine: what is in it tried again, released by a person, or expired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from monitor.intake.quarantine import Quarantine, QuarantinedItem
from monitor.intake.reasons import Reason
from monitor.intake.releases import record_release
from monitor.intake.ways_out import RELEASABLE
from monitor.scans import BATCH, BATCH_BYTES, Arrival, Fate, Outcome, ScanIntake, Tell
from registry import ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import BadInputError, IntegrityError, NotFoundError, RefusedError
from registry.identities import SYSTEM, Identity, Role
from registry.jobs import Claim

PURGE = "purge quarantine"
#: What entries about the whole of it are about.
SUBJECT = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReport:
    """What became of items that were tried again."""

    added: int
    #: stored meanwhile, by another road
    known: int
    #: reason -> how many stay
    refused: Mapping[str, int]
    #: ids of items whose reason is another one now
    changed: tuple[str, ...]
    #: ids of items that were too large to keep
    not_kept: tuple[str, ...]
    #: ids of items that were changed since, or sealed by another key
    unopened: tuple[str, ...]

    @property
    def tried(self) -> int:
        return self.added + self.known + sum(self.refused.values())


class QuarantineKeeper:
    """Lets items out of quarantine, each once its scan is durable."""

    def __init__(
        self, database: Database, quarantine: Quarantine, intake: ScanIntake, clock: Clock
    ) -> None:
        self._database = database
        self._quarantine = quarantine
        self._intake = intake
        self._clock = clock

    def retry(
        self, items: Sequence[QuarantinedItem], *, by: Identity, tell: Tell | None = None
    ) -> RetryReport:
        """Try items again, as if they came in now.

        What is taken leaves the quarantine; what is refused again stays, with
        its new reason. After a crash, what was taken but not removed is found
        to be known by the next retry.

        Raises
        ------
        NotPermittedError
        StorageFullError
        """
        for site in sorted({item.site for item in items}):
            by.require(Role.OPERATOR, "try quarantined items again", site=site)
        outcomes: Counter[Outcome] = Counter()
        refused: Counter[str] = Counter()
        changed: list[str] = []
        not_kept = [item.id for item in items if not item.kept]
        unopened: list[str] = []
        done = len(not_kept)
        for chunk in _chunks([item for item in items if item.kept]):
            opened = [(item, self._opened(item)) for item in chunk]
            readable = [(item, arrival) for item, arrival in opened if arrival is not None]
            unopened += [item.id for item, arrival in opened if arrival is None]
            fates = self._intake.take([arrival for _, arrival in readable])
            gone = []
            for (item, _), fate in zip(readable, fates, strict=True):
                outcomes[fate.outcome] += 1
                if fate.reason is None:
                    gone.append(item.id)
                    continue
                refused[fate.reason.value] += 1
                if fate.reason is not item.reason:
                    changed.append(item.id)
            self._quarantine.remove_all(gone)
            done += len(chunk)
            if tell is not None:
                tell(done, len(items))
        report = RetryReport(
            added=outcomes[Outcome.ADDED],
            known=outcomes[Outcome.KNOWN],
            refused=dict(refused),
            changed=tuple(changed),
            not_kept=tuple(not_kept),
            unopened=tuple(unopened),
        )
        with self._database.transaction() as session:
            ledger.append(
                session,
                at=self._clock.now(),
                actor=by.name,
                kind="quarantine.retried",
                subject=SUBJECT,
                facts={
                    "added": report.added,
                    "known": report.known,
                    "refused": dict(report.refused),
                    "not_kept": len(not_kept),
                    "unopened": len(unopened),
                },
            )
        return report

    def release(self, item_id: str, *, statement: str, by: Identity) -> Fate:
        """Take an item in on a person's word that no text is burned into it.

        The statement enters the ledger first, so that no scan is ever stored
        on the word of nobody. It holds for the same file whenever it comes
        again. Where the instance is refused for another
        reason, it stays, with that reason.

        Parameters
        ----------
        statement : why the person is sure; no patient data

        Raises
        ------
        NotPermittedError
        NotFoundError
        IntegrityError
            If the item was changed, or sealed by another key.
        RefusedError
            If burned-in text is not what it was refused for.
        """
        if not by.holds(Role.OPERATOR):
            by.require(Role.OPERATOR, "release quarantined items")
        if not statement.strip():
            raise BadInputError("a release takes a statement: say why there is no text in it")
        item = self._quarantine.find(item_id)
        by.require(Role.OPERATOR, "release its items", site=item.site)
        if item.reason not in RELEASABLE:
            raise RefusedError(
                f"quarantine item {item_id} was refused as {item.reason.value}, and only a "
                "suspicion of burned-in text can be denied: `driftward scan quarantine retry` "
                "tries it again"
            )
        content = self._quarantine.read(item_id)
        with self._database.transaction() as session:
            record_release(session, item, statement=statement, by=by, at=self._clock.now())
        arrival = self._intake.prepare(
            content, site=item.site, annotation_denied=True, came=False
        )
        (fate,) = self._intake.take([arrival])
        if fate.outcome is not Outcome.QUARANTINED:
            self._quarantine.remove_all([item.id])
        return fate

    def _opened(self, item: QuarantinedItem) -> Arrival | None:
        try:
            content = self._quarantine.read(item.id)
        except (IntegrityError, NotFoundError):
            return None
        return self._intake.prepare(content, site=item.site, came=False)


class QuarantineRetention:
    """Removes what has been in quarantine for too long.

    Parameters
    ----------
    quarantine : opens it, when it is needed
    keep_for : after the first refusal
    """

    def __init__(
        self,
        database: Database,
        quarantine: Callable[[], Quarantine],
        clock: Clock,
        *,
        keep_for: timedelta,
    ) -> None:
        self._database = database
        self._quarantine = quarantine
        self._clock = clock
        self._keep_for = keep_for

    def handle(self, _claim: Claim) -> None:
        """Do the job `purge quarantine`; doing it twice does no harm."""
        self.purge(by=SYSTEM)

    def purge(self, *, by: Identity, older_than: timedelta | None = None) -> int:
        """Remove expired items, and return how many.

        The entry comes first: nothing leaves unrecorded, and what a crash
        leaves behind is removed, and recorded, by the next purge.

        Parameters
        ----------
        older_than : by default, as long as the settings say

        Raises
        ------
        NotPermittedError
        HomeError
            If the quarantine cannot be used.
        """
        by.require(Role.OPERATOR, "purge the quarantine")
        keep_for = self._keep_for if older_than is None else older_than
        now = self._clock.now()
        quarantine = self._quarantine()
        quarantine.bring_back(now=now)
        expired = quarantine.expired(older_than=keep_for, now=now)
        if not expired:
            return 0
        reasons = Counter(item.reason.value for item in expired)
        with self._database.transaction() as session:
            ledger.append(
                session,
                at=now,
                actor=by.name,
                kind="quarantine.purged",
                subject=SUBJECT,
                facts={
                    "items": len(expired),
                    "bytes": sum(item.size for item in expired),
                    "older_than_days": keep_for / timedelta(days=1),
                    "reasons": dict(reasons),
                },
            )
        quarantine.remove_all(item.id for item in expired)
        return len(expired)


def chosen(
    quarantine: Quarantine,
    *,
    ids: Sequence[str] = (),
    reason: Reason | None = None,
    site: str | None = None,
) -> list[QuarantinedItem]:
    """Return the items named, or those of one reason and site; oldest first.

    Raises
    ------
    NotFoundError
        If one of the named items is not there.
    """
    items = [quarantine.find(item_id) for item_id in ids] if ids else quarantine.items()
    return [
        item
        for item in items
        if (reason is None or item.reason is reason) and (site is None or item.site == site)
    ]


def _chunks(items: Sequence[QuarantinedItem]) -> Iterator[list[QuarantinedItem]]:
    """Yield items in batches that fit in memory."""
    chunk: list[QuarantinedItem] = []
    size = 0
    for item in items:
        if chunk and (len(chunk) >= BATCH or size + item.size > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk
