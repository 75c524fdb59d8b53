"""Surrogates that outlive the keys that made them.

What is met for the first time gets the surrogate that the newest key derives,
so that receivers agree without a word. What an older key met keeps its
surrogate: its rows are found under what the older key derives, and a look-up
under the newest key is then written beside them. No receiver stores anything
under a keyring that is not the newest (`ScanIntake.take` sees to that), so
what is not found under an older key never will be.

Days that a patient's dates are shifted by stand in no row. They are those of
the key that gave the patient its surrogate, as long as that is held, and get
a look-up of their own beside the patient's, so that it can be dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import CompoundSelect, bindparam, delete, literal, select, union_all
from sqlalchemy.orm import Session

from monitor.intake.keys import Keyring
from monitor.intake.pseudonyms import Fields, derived, look_up_digest
from monitor.tables import LookUpRow, ScanRow
from registry.database import Database

#: Kind of what is looked up -> the column of `scans` that its surrogates stand in. Series
#: have no index of their own: they are sought within their study.
_COLUMNS = {
    "patient": ScanRow.patient,
    "patient of study": ScanRow.patient,
    "study": ScanRow.study,
    "instance": ScanRow.instance,
}
#: Tokens and patients that one process keeps in memory.
_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    surrogate: str
    #: an older key found it: the newest one has no look-up for it yet
    by_older: bool


class RememberedSurrogates:
    """Gives what older keys met the surrogates that it has; safe for several threads.

    Parameters
    ----------
    revision : of the keys, as the database counts it
    tokens : number of an older key -> the tokens in use when it was replaced
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        revision: int,
        tokens: Mapping[int, frozenset[str]],
    ) -> None:
        # Reading must not queue behind whoever writes.
        self._engine = database.engine.execution_options(read_only=True)
        self._keyring = keyring
        self._revision = revision
        self._tokens = tokens
        self._lock = threading.Lock()
        #: look-up digest under the newest key -> surrogate
        self._memory: dict[str, str] = {}
        #: look-ups to be written, by the digest under the newest key
        self._unwritten: dict[str, tuple[Fields, str]] = {}

    @property
    def revision(self) -> int:
        return self._revision

    def of(self, identities: Sequence[Fields]) -> list[str]:
        """Return a surrogate for each: the one that it has, or else the newest key's."""
        newest = self._keyring.newest.key
        if not self._revision:
            return [derived(newest, fields) for fields in identities]
        digests = {fields: look_up_digest(newest, fields) for fields in identities}
        known = {
            fields: surrogate
            for fields, digest in digests.items()
            if (surrogate := self._memory.get(digest)) is not None
        }
        # Patients before what is theirs.
        unknown = sorted(
            (fields for fields in digests if fields not in known),
            key=lambda fields: fields[0] == "shift",
        )
        if unknown:
            found = self._sought(unknown)
            for fields in unknown:
                if fields[0] == "shift" and fields not in found:
                    shift = self._of_patient(fields, known[fields[1:]])
                    if shift is not None:
                        found[fields] = shift
                before = found.get(fields)
                known[fields] = before.surrogate if before else derived(newest, fields)
            with self._lock:
                if len(self._memory) > _REMEMBERED:
                    self._memory.clear()
                self._memory |= {digests[fields]: known[fields] for fields in unknown}
                self._unwritten |= {
                    digests[fields]: (fields, before.surrogate)
                    for fields, before in found.items()
                    if before.by_older
                }
        return [known[fields] for fields in identities]

    @property
    def has_unwritten(self) -> bool:
        return bool(self._unwritten)

    def write(self, session: Session) -> None:
        """Write the look-ups of what older keys found, under the newest key.

        In a transaction that holds the ledger's lock. What a crash keeps from
        being written is met again.
        """
        with self._lock:
            waiting, self._unwritten = self._unwritten, {}
        if not waiting:
            return
        number = self._keyring.newest.number
        there = set(
            session.scalars(select(LookUpRow.digest).where(LookUpRow.digest.in_(waiting)))
        )
        replaced = [
            look_up_digest(key.key, fields)
            for fields, _ in waiting.values()
            for key in self._keyring.older
        ]
        session.execute(delete(LookUpRow).where(LookUpRow.digest.in_(replaced)))
        session.add_all(
            LookUpRow(digest=digest, kind=fields[0], surrogate=surrogate, key=number)
            for digest, (fields, surrogate) in waiting.items()
            if digest not in there
        )

    def _sought(self, identities: Sequence[Fields]) -> dict[Fields, _Found]:
        """Return what is known of these by any key."""
        newest = self._keyring.newest
        looked_up = {
            look_up_digest(key.key, fields): (fields, key.number)
            for key in self._keyring.keys
            for fields in identities
        }
        # Oldest first, so that of two surrogates the older one wins.
        made = {
            derived(key.key, fields): fields
            for key in reversed(self._keyring.older)
            for fields in identities
        }
        values: dict[str, list[str]] = {"digests": list(looked_up)}
        for surrogate, fields in made.items():
            kind = fields[0]
            if kind in _COLUMNS:
                values.setdefault(kind, []).append(surrogate)
                if kind == "instance":
                    values["sites"] = [fields[1]]
        with self._engine.connect() as connection:
            rows: list[Any] = list(connection.execute(_query(tuple(values)), values))
            found = self._tokens_of(identities)
            for kind, by, surrogate in rows:
                if kind:
                    found[made[by]] = _Found(surrogate=surrogate, by_older=True)
            # A look-up is of what a row was found for before: it decides.
            for kind, by, surrogate in rows:
                if not kind:
                    fields, number = looked_up[by]
                    older = number != newest.number
                    found[fields] = _Found(surrogate=surrogate, by_older=older)
            study = next((item for fields, item in found.items() if fields[0] == "study"), None)
            series = {
                surrogate: fields
                for surrogate, fields in made.items()
                if fields[0] == "series" and fields not in found
            }
            if study is not None and series:
                for surrogate in connection.scalars(
                    _SERIES, {"study": study.surrogate, "series": list(series)}
                ):
                    found[series[surrogate]] = _Found(surrogate=surrogate, by_older=True)
        return found

    def _of_patient(self, shift: Fields, patient: str) -> _Found | None:
        """Return the shift of a patient with a surrogate; None where the newest key gave that."""
        newest, older = self._keyring.newest, self._keyring.older
        if derived(newest.key, shift[1:]) == patient:
            return None
        # Where the key was dropped, and no date was kept since: from now on the newest key's.
        giver = next((one for one in older if derived(one.key, shift[1:]) == patient), newest)
        return _Found(surrogate=derived(giver.key, shift), by_older=True)

    def _tokens_of(self, identities: Iterable[Fields]) -> dict[Fields, _Found]:
        found = {}
        for fields in identities:
            if fields[0] != "token":
                continue
            for key in self._keyring.older:
                surrogate = derived(key.key, fields)
                if surrogate in self._tokens.get(key.number, frozenset()):
                    found[fields] = _Found(surrogate=surrogate, by_older=True)
                    break
        return found


_SERIES = (
    select(ScanRow.series)
    .where(
        ScanRow.study == bindparam("study"),
        ScanRow.series.in_(bindparam("series", expanding=True)),
    )
    .distinct()
)


@cache
def _query(names: tuple[str, ...]) -> CompoundSelect[tuple[str, str, str]]:
    """Return the query for look-ups and rows, with lists of these names as parameters."""
    parts = [
        select(literal(""), LookUpRow.digest, LookUpRow.surrogate).where(
            LookUpRow.digest.in_(bindparam("digests", expanding=True))
        )
    ]
    for kind, column in _COLUMNS.items():
        if kind not in names:
            continue
        part = select(literal(kind), column, column).where(
            column.in_(bindparam(kind, expanding=True))
        )
        if kind == "instance":
            # Its index begins with the site.
            part = part.where(ScanRow.site.in_(bindparam("sites", expanding=True)))
        parts.append(part.distinct())
    return union_all(*parts)
