"""From the vault to the inputs of every version that reads a scan: each scan read once."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from monitor.assembling.manifests import read_manifest
from monitor.imaging.frames import chosen_frames, frame_count, middle_frame
from monitor.imaging.images import Image
from monitor.imaging.pixels import decode, prepare, rendered
from monitor.imaging.stored_samples import Reduced
from monitor.imaging.voi import Floats
from monitor.imaging.wavelets import decode_without, levels_to_skip
from monitor.intake.reasons import Reason, unreadable
from monitor.intake.vault import Vault
from registry.bundles.preprocessing import Preprocessing, Unit
from registry.errors import IntegrityError, NotFoundError, SetupError, UnreadableScanError

if TYPE_CHECKING:
    from monitor.tables import ScanRow

#: (frame, levels left out) -> image
_Decoded: TypeAlias = dict[tuple[int, int], Image]

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

    #: name of the preprocessing -> scan id -> float32 [frames, 3, h, w]
    inputs: dict[str, dict[int, Floats]] = field(default_factory=dict)
    #: scans that cannot be decoded, with the reason
    unreadable: list[tuple[ScanRow, str]] = field(default_factory=list)
    #: what each readable scan took
    seconds: list[float] = field(default_factory=list)


class ScanImages:
    """The images of stored scans."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def prepared(self, scan: ScanRow, preprocessing: Preprocessing) -> Floats:
        """Return a scan as an encoder reads it, float32 [frames, 3, h, w].

        Raises
        ------
        UnreadableScanError, NotFoundError, IntegrityError
            If it cannot be decoded, is no longer kept, or is not what was stored.
        """
        return _OpenScan(self._vault, scan).inputs(preprocessing, decode_without)

    def image(self, scan: ScanRow, preprocessing: Preprocessing) -> Image:
        """Return a scan's image at the resolution that a preprocessing asks for.

        Of several instances or frames it is the one in the middle of those that are read.
        """
        opened = _OpenScan(self._vault, scan)
        digests = opened.instances(preprocessing)
        ds = opened.dataset(digests[middle_frame(len(digests))])
        frames = chosen_frames(frame_count(ds), preprocessing.frames)
        frame = frames[middle_frame(len(frames))]
        return decode(ds, frame=frame, skipped_levels=levels_to_skip(ds, preprocessing, frame))

    def shown_again(self, scan: ScanRow, preprocessing: Preprocessing) -> Floats | None:
        """Return what an encoder was shown of a scan, gray, 0 black and 1 white, float32 [h, w].

        None where its pixels cannot be read any more.
        """
        try:
            image = self.image(scan, preprocessing)
        except (UnreadableScanError, NotFoundError, IntegrityError, OSError):
            return None
        gray: Floats = rendered(image, preprocessing).mean(axis=0)
        return gray

    def prepare_piece(self, piece: Piece, reduced: Reduced = decode_without) -> PreparedPiece:
        """Prepare scans for all who read them; one that cannot be read is said to be such.

        Raises
        ------
        SetupError
            If the vault as a whole is not there: no scan is to blame for that.
        """
        prepared = PreparedPiece(inputs={name: {} for name in piece.wanted})
        for scan in piece.scans:
            began = time.perf_counter()
            try:
                inputs = self._prepared(scan, piece, reduced)
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
                prepared.seconds.append(time.perf_counter() - began)
        return prepared

    def _prepared(self, scan: ScanRow, piece: Piece, reduced: Reduced) -> dict[str, Floats]:
        opened = _OpenScan(self._vault, scan)
        inputs: dict[str, Floats] = {}
        problem: UnreadableScanError | None = None
        for name, (preprocessing, ids) in piece.wanted.items():
            if scan.id in ids:
                try:
                    inputs[name] = opened.inputs(preprocessing, reduced)
                except UnreadableScanError as error:
                    problem = error
        if problem is not None and not inputs:
            raise problem
        return inputs

    def _require_vault(self, scan: ScanRow) -> None:
        root = self._vault.path(scan.vault_digest).parents[1]
        if not root.is_dir() or next(root.iterdir(), None) is None:
            raise SetupError(
                f"the vault {root} is empty: is its disk mounted? Nothing is read until it is "
                "there again"
            )


class _OpenScan:
    """One scan while it is prepared: its files, and what was decoded of them, for all who ask."""

    def __init__(self, vault: Vault, scan: ScanRow) -> None:
        self._vault = vault
        self._scan = scan
        self._manifest = (
            None
            if scan.unit in {None, Unit.INSTANCE.value}
            else read_manifest(vault, scan.vault_digest)
        )
        self._datasets: dict[str, Dataset] = {}
        self._decoded: dict[str, _Decoded] = {}

    def instances(self, preprocessing: Preprocessing) -> tuple[str, ...]:
        """Return the files that a preprocessing reads, by their digests.

        Raises
        ------
        UnreadableScanError
            If it reads other units, or none of the scan's series.
        """
        reading = preprocessing.reading
        if (reading is None) != (self._manifest is None):
            raise unreadable(
                Reason.UNSUPPORTED_PIXELS,
                f"the scan is one {self._scan.unit}, and the version reads one "
                f"{preprocessing.unit.value}",
            )
        if reading is None or self._manifest is None:
            return (self._scan.vault_digest,)
        digests, refusal = self._manifest.selected(reading.select)
        if refusal is not None:
            raise unreadable(Reason.NO_PIXELS, refusal)
        return tuple(digests[index] for index in reading.chosen(len(digests)))

    def dataset(self, digest: str) -> Dataset:
        if digest not in self._datasets:
            self._datasets[digest] = dcmread(io.BytesIO(self._vault.get(digest)))
        return self._datasets[digest]

    def inputs(self, preprocessing: Preprocessing, reduced: Reduced) -> Floats:
        """Return the images that a preprocessing reads, float32 [images, 3, h, w]."""
        return np.concatenate(
            [
                _inputs(
                    self.dataset(digest),
                    preprocessing,
                    self._decoded.setdefault(digest, {}),
                    reduced,
                )
                for digest in self.instances(preprocessing)
            ]
        )


def _inputs(
    ds: Dataset, preprocessing: Preprocessing, decoded: _Decoded, reduced: Reduced
) -> Floats:
    """Return the frames that a preprocessing reads; what is decoded is shared with others."""
    frames = []
    for frame in chosen_frames(frame_count(ds), preprocessing.frames):
        # By its own declaration, whoever else reads the scan: an embedding
        # must not depend on that.
        skipped = levels_to_skip(ds, preprocessing, frame)
        if (frame, skipped) not in decoded:
            decoded[frame, skipped] = decode(
                ds, frame=frame, skipped_levels=skipped, reduced=reduced
            )
        frames.append(prepare(decoded[frame, skipped], preprocessing))
    return np.stack(frames)
