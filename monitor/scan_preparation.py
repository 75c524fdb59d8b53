"""From the vault to the inputs of every version that reads a scan: each scan read once."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom import dcmread

from monitor.intake.vault import Vault
from monitor.pixels import Image, decode, prepare
from monitor.voi import Floats
from monitor.wavelets import levels_to_skip
from registry.bundles.preprocessing import Preprocessing
from registry.errors import IntegrityError, NotFoundError, SetupError, UnreadableScanError

if TYPE_CHECKING:
    from monitor.tables import ScanRow

_GONE = "cannot be read: the vault no longer holds its pixels"
_DAMAGED = "cannot be read: the vault's file is not what was stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Scans that one thread prepares, and who is to read them."""

    scans: Sequence[ScanRow]
    #: preprocessings by a name, and the ids of the scans that each is wanted for
    wanted: Mapping[str, tuple[Preprocessing, frozenset[int]]]


@dataclass(slots=True, kw_only=True)
class PreparedPiece:
    """What came of a piece."""

    #: name of the preprocessing -> scan id -> float32 [3, h, w]
    inputs: dict[str, dict[int, Floats]] = field(default_factory=dict)
    #: scans that cannot be decoded, with the reason
    unreadable: list[tuple[ScanRow, str]] = field(default_factory=list)


class ScanImages:
    """The images of stored scans."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def prepared(self, scan: ScanRow, preprocessing: Preprocessing) -> Floats:
        """Return a scan as an encoder reads it, float32 [3, h, w].

        Raises
        ------
        UnreadableScanError, NotFoundError, IntegrityError
            If it cannot be decoded, is no longer kept, or is not what was stored.
        """
        return prepare(self.image(scan, preprocessing), preprocessing)

    def image(self, scan: ScanRow, preprocessing: Preprocessing) -> Image:
        """Return a scan's image at the resolution that a preprocessing asks for."""
        ds = dcmread(io.BytesIO(self._vault.get(scan.vault_digest)))
        return decode(ds, skipped_levels=levels_to_skip(ds, preprocessing))

    def prepare_piece(self, piece: Piece) -> PreparedPiece:
        """Prepare scans for all who read them; one that cannot be read is said to be such.

        Raises
        ------
        SetupError
            If the vault as a whole is not there: no scan is to blame for that.
        """
        prepared = PreparedPiece(inputs={name: {} for name in piece.wanted})
        for scan in piece.scans:
            try:
                inputs = self._inputs(scan, piece)
            except UnreadableScanError as error:
                prepared.unreadable.append((scan, f"cannot be read: {error.detail}"))
            except NotFoundError:
                self._require_vault(scan)
                prepared.unreadable.append((scan, _GONE))
            except IntegrityError:
                prepared.unreadable.append((scan, _DAMAGED))
            else:
                for name, pixels in inputs.items():
                    prepared.inputs[name][scan.id] = pixels
        return prepared

    def _inputs(self, scan: ScanRow, piece: Piece) -> dict[str, Floats]:
        ds = dcmread(io.BytesIO(self._vault.get(scan.vault_digest)))
        images: dict[int, Image] = {}
        inputs: dict[str, Floats] = {}
        for name, (preprocessing, ids) in piece.wanted.items():
            if scan.id not in ids:
                continue
            # By its own declaration, whoever else reads the scan: an embedding
            # must not depend on that.
            skipped = levels_to_skip(ds, preprocessing)
            if skipped not in images:
                images[skipped] = decode(ds, skipped_levels=skipped)
            inputs[name] = prepare(images[skipped], preprocessing)
        return inputs

    def _require_vault(self, scan: ScanRow) -> None:
        root = self._vault.path(scan.vault_digest).parents[1]
        if not root.is_dir() or next(root.iterdir(), None) is None:
            raise SetupError(
                f"the vault {root} is empty: is its disk mounted? Nothing is read until it is "
                "there again"
            )
