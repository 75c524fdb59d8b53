"""What an embedding job reads together, and what it makes of that."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, and_, or_, true
from sqlalchemy.orm import Session

from monitor.embedding.scan_preparation import Piece, PreparedPiece
from monitor.tables import ScanRow
from monitor.windows import Window
from registry.bundles.bundle import Bundle
from registry.bundles.preprocessing import Preprocessing
from registry.jobs import Claim
from registry.versions import VersionRow

if TYPE_CHECKING:
    from monitor.embedding.encoders import Encoded, Encoder

#: Scans that a thread prepares, and on a CPU embeds, at a time: so few that what a layer
#: returns for them stays in the core's own cache.
PIECE = 4


class EmbedsScans(Protocol):
    """Lets a monitor's versions read what they have not read yet, and stores what they said."""

    def embed(
        self,
        monitor_name: str,
        *,
        window: Window | None = None,
        extra: Sequence[VersionRow] = (),
        only: Sequence[int] | None = None,
        claim: Claim | None = None,
    ) -> int:
        """Return how many scans were read; `monitor.embedding.embedding.Embedder` says the rest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowVersion:
    """A version that reads beside a model's champion, and serves nobody."""

    version: VersionRow
    #: it reads what arrives from then on
    since: datetime


class NamesShadows(Protocol):
    """Says which versions read beside a model's champion now."""

    def __call__(self, session: Session, model: str) -> Sequence[ShadowVersion]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingVersion:
    """A version that reads scans for a monitor."""

    version: VersionRow
    bundle: Bundle
    encoder: Encoder
    preprocessing: str  #: its digest, by which versions share prepared scans
    #: it reads only what arrived from then on; None where it reads all
    since: datetime | None = None
    #: the sites whose scans alone it reads, each from when on; empty where it reads those of all
    sites: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def beside(self) -> bool:
        """Whether it reads some scans alone, beside what reads them all."""
        return self.since is not None or bool(self.sites)

    def is_for(self, scan: ScanRow) -> bool:
        """Return whether a scan is one that it reads."""
        since = self.sites.get(scan.site) if self.sites else self.since
        return not self.beside or (since is not None and scan.arrived_at >= since)

    def where(self) -> ColumnElement[bool]:
        """Return the condition on the scans table of what it reads."""
        if self.sites:
            return or_(
                *(
                    and_(ScanRow.site == site, ScanRow.arrived_at >= since)
                    for site, since in self.sites.items()
                )
            )
        return true() if self.since is None else ScanRow.arrived_at >= self.since


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one transaction will write."""

    scans: int
    refusals: list[tuple[ScanRow, str]] = field(default_factory=list)
    read: list[tuple[ReadingVersion, Sequence[ScanRow], Encoded]] = field(default_factory=list)
    #: what decoding and embedding took of each scan
    decode_seconds: list[float] = field(default_factory=list)
    embed_seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A piece, and the transaction that it ends, if it is the last of one."""

    piece: Piece
    missing: Mapping[int, set[int]]  #: version id -> ids of the scans that it has not read
    ends: Batch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What came of planned pieces that were embedded together."""

    planned: Sequence[Planned]
    unreadable: Sequence[tuple[ScanRow, str]]
    read: Sequence[tuple[ReadingVersion, Sequence[ScanRow], Encoded]]
    #: what decoding and embedding took of each scan
    decode_seconds: Sequence[float]
    embed_seconds: Sequence[float]


def piece_of(
    versions: Sequence[ReadingVersion],
    scans: Sequence[ScanRow],
    missing: Mapping[int, set[int]],
) -> Piece:
    ids = {scan.id for scan in scans}
    wanted: dict[str, tuple[Preprocessing, frozenset[int]]] = {}
    for reader in versions:
        preprocessing = reader.bundle.preprocessing
        _, others = wanted.get(reader.preprocessing, (preprocessing, frozenset()))
        wanted[reader.preprocessing] = (
            preprocessing,
            others | (ids & missing[reader.version.id]),
        )
    return Piece(scans=scans, wanted=wanted)


def gathered(
    prepared: Iterable[tuple[Planned, PreparedPiece]], together: int
) -> Iterator[list[tuple[Planned, PreparedPiece]]]:
    """Yield pieces until they are a batch, or the last of a transaction."""
    batch: list[tuple[Planned, PreparedPiece]] = []
    images = 0
    for plan, piece in prepared:
        batch.append((plan, piece))
        read = (sum(map(len, inputs.values())) for inputs in piece.inputs.values())
        images += max([len(plan.piece.scans), *read])
        if plan.ends is not None or images + PIECE > together:
            yield batch
            batch, images = [], 0


def embed_together(
    versions: Sequence[ReadingVersion], pieces: Sequence[tuple[Planned, PreparedPiece]]
) -> Embedded:
    """Embed pieces together, by every version what it has not read."""
    read = []
    embedded: set[int] = set()
    began = time.perf_counter()
    for reader in versions:
        scans: list[ScanRow] = []
        inputs: list[npt.NDArray[np.float32]] = []
        for plan, prepared in pieces:
            for scan in plan.piece.scans:
                pixels = prepared.inputs[reader.preprocessing].get(scan.id)
                if pixels is not None and scan.id in plan.missing[reader.version.id]:
                    scans.append(scan)
                    inputs.append(pixels)
        if scans:
            frames = [len(pixels) for pixels in inputs]
            encoded = reader.encoder.embed(np.concatenate(inputs), frames=frames)
            read.append((reader, scans, encoded))
            embedded |= {scan.id for scan in scans}
    seconds = time.perf_counter() - began
    return Embedded(
        planned=[plan for plan, _ in pieces],
        # What some version could once read is not refused for what became of it since.
        unreadable=[
            (scan, reason)
            for plan, prepared in pieces
            for scan, reason in prepared.unreadable
            if all(
                scan.id in plan.missing[reader.version.id]
                for reader in versions
                if not reader.beside
            )
        ],
        read=read,
        decode_seconds=[one for _, prepared in pieces for one in prepared.seconds],
        embed_seconds=[seconds / len(embedded)] * len(embedded) if embedded else [],
    )
