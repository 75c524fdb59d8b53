"""How a stream lies on disk: safetensors for arrays, JSON for everything else, no pickle.

The tensors carry their digest in their name and are written first; the JSON names them and
takes the place of the one before at once. So there is a whole stream at every moment.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.intake.durable_files import write_durably
from monitor.statistics.streams.recent import Recent
from monitor.statistics.streams.recovery import Recovery
from monitor.statistics.streams.stakes import StreamLaw
from monitor.statistics.streams.watch import Shift, StreamAlarm, Watch
from registry.errors import BadInputError, IntegrityError, NotFoundError

_FACTS = "stream.json"
_FORMAT = 1

Arrays = dict[str, npt.NDArray[Any]]


def write_stream(directory: Path, watch: Watch, *, seed: int, profile: str) -> None:
    """Write a stream's state in place of the one before; `profile` is its profile's digest."""
    from safetensors.numpy import save

    tensors = save({name: np.ascontiguousarray(one) for name, one in _arrays(watch).items()})
    digest = hashlib.sha256(tensors).hexdigest()
    shift = watch.shift
    document = {
        "format": _FORMAT,
        "profile": profile,
        "seed": seed,
        "scans_between_false_alarms": watch.scans_between_false_alarms,
        "burn_in": watch.burn_in,
        "scans": watch.scans,
        "written": watch.recent.written,
        "present": watch.present,
        "present_first": watch.present_first,
        "ordinary": watch.ordinary,
        "watching": watch.bets.watching,
        "pooling": watch.bets.pooling,
        "alarms": [asdict(alarm) for alarm in watch.alarms],
        "shift": None
        if shift is None
        else {
            "column": shift.column,
            "trace": shift.recovery.trace,
            "spread": shift.recovery.spread,
            "inverse_size": shift.recovery.inverse_size,
            "mass": shift.recovery.mass,
            "pending_mass": shift.recovery.pending_mass,
            "evidence": shift.recovery.evidence,
            "first_squared_shift": shift.recovery.first_squared_shift,
            "fading": shift.fading,
        },
        "tensors": digest,
    }
    directory.mkdir(parents=True, exist_ok=True)
    written = _tensors(directory, digest)
    write_durably(written, tensors)
    text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
    write_durably(directory / _FACTS, (text + "\n").encode())
    for old in directory.glob("stream-*.safetensors"):
        if old != written:
            old.unlink(missing_ok=True)


def read_stream(directory: Path, law: StreamLaw, *, profile: str) -> tuple[Watch, int]:
    """Read what `write_stream` wrote; return it beside its seed.

    Raises
    ------
    NotFoundError
        If there is no stream.
    BadInputError
        If the files are not a stream of this format, or of this profile.
    IntegrityError
        If the tensors are not those that were written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        text = (directory / _FACTS).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"{directory} holds no stream: {_FACTS} is missing") from error
    try:
        facts: dict[str, Any] = json.loads(text)
        version, digest, owner = facts["format"], str(facts["tensors"]), facts["profile"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{directory / _FACTS} does not describe a stream") from error
    if version != _FORMAT:
        raise BadInputError(
            f"{directory} holds a stream of format {version}, and this version reads format "
            f"{_FORMAT}: begin the stream again, with a burn-in where weeks differ"
        )
    if owner != profile:
        raise BadInputError(
            f"the stream in {directory} began with another profile: load it with that one, "
            "or begin a stream with this one"
        )
    try:
        data = _tensors(directory, digest).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{directory} holds no whole stream: {error.filename} is missing"
        ) from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise IntegrityError(
            f"{_tensors(directory, digest)} is not the file that {_FACTS} was written with: "
            "restore both from one backup, or begin the stream again"
        )
    try:
        return _watch(law, facts, load(data)), int(facts["seed"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise BadInputError(f"{directory} does not hold a whole stream") from error


def pack_stream(directory: Path) -> bytes:
    """Return what `write_stream` wrote as one string of bytes, for a row of a database.

    The length of the JSON as 8 bytes, little-endian; the JSON; the tensors.
    """
    text = (directory / _FACTS).read_bytes()
    tensors = _tensors(directory, str(json.loads(text)["tensors"])).read_bytes()
    return len(text).to_bytes(8, "little") + text + tensors


def unpack_stream(
    packed: bytes, directory: Path, *, scans_between_false_alarms: int | None = None
) -> None:
    """Write packed bytes as the files that `read_stream` reads.

    With another budget the stream goes on within that one: its wealth does not depend on the
    threshold, so nothing that it has learnt is lost.

    Raises
    ------
    BadInputError
        If the bytes are not a packed stream.
    """
    end = 8 + int.from_bytes(packed[:8], "little")
    try:
        facts: dict[str, Any] = json.loads(packed[8:end])
        tensors = _tensors(directory, str(facts["tensors"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError("these bytes are not a stream: begin it again") from error
    if scans_between_false_alarms is not None:
        facts["scans_between_false_alarms"] = scans_between_false_alarms
    directory.mkdir(parents=True, exist_ok=True)
    tensors.write_bytes(packed[end:])
    (directory / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _tensors(directory: Path, digest: str) -> Path:
    return directory / f"stream-{digest[:32]}.safetensors"


def _arrays(watch: Watch) -> Arrays:
    """Return all arrays by name; they are the stream's own."""
    recent, shift = watch.recent, watch.shift
    kept = min(recent.written, len(recent.scans))
    arrays: Arrays = {
        **{f"bets.{name}": one for name, one in watch.bets.state().items()},
        "recent.sums": recent.sums[:kept],
        "recent.scans": recent.scans[:kept],
        "recent.first": recent.first[:kept],
        "recent.clock": recent.clock[:kept],
        "recent.keys": recent.keys[:kept],
    }
    if shift is not None:
        arrays |= {
            "shift.before": shift.before,
            "shift.shifted": shift.recovery.shifted,
            "shift.pending": shift.recovery.pending,
        }
    return arrays


def _watch(law: StreamLaw, facts: dict[str, Any], arrays: Arrays) -> Watch:
    watch = Watch.start(
        law,
        scans_between_false_alarms=int(facts["scans_between_false_alarms"]),
        burn_in=int(facts["burn_in"]),
    )
    for name, array in watch.bets.state().items():
        array[...] = _shaped(arrays[f"bets.{name}"], array.shape)
    watch.bets.watching, watch.bets.pooling = bool(facts["watching"]), bool(facts["pooling"])
    watch.bets.spread()
    recent = Recent.nobody(law.size)
    kept = min(int(facts["written"]), len(recent.scans))
    for name in ("sums", "scans", "first", "clock", "keys"):
        array = getattr(recent, name)
        array[:kept] = _shaped(arrays[f"recent.{name}"], (kept, *array.shape[1:]))
    watch.recent = Recent(
        sums=recent.sums,
        scans=recent.scans,
        first=recent.first,
        clock=recent.clock,
        keys=recent.keys,
        written=int(facts["written"]),
    )
    watch.present = [int(key) for key in facts["present"]]
    watch.present_first = [int(first) for first in facts["present_first"]]
    watch.scans, watch.ordinary = int(facts["scans"]), float(facts["ordinary"])
    watch.alarms = [
        StreamAlarm(**{**alarm, "leading": tuple(alarm["leading"])})
        for alarm in facts["alarms"]
    ]
    shift = facts["shift"]
    if shift is not None:
        watch.shift = Shift(
            column=int(shift["column"]),
            before=arrays["shift.before"],
            recovery=Recovery(
                trace=float(shift["trace"]),
                spread=float(shift["spread"]),
                inverse_size=float(shift["inverse_size"]),
                shifted=arrays["shift.shifted"],
                mass=float(shift["mass"]),
                pending=arrays["shift.pending"],
                pending_mass=float(shift["pending_mass"]),
                evidence=float(shift["evidence"]),
                # Streams that were saved before it was kept go on without it.
                first_squared_shift=float(shift.get("first_squared_shift", 0.0)),
            ),
            fading=bool(shift["fading"]),
        )
    return watch


def _shaped(array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array of this very shape, which assignment would otherwise broadcast."""
    if array.shape != shape:
        raise ValueError(f"an array of shape {array.shape} in place of {shape}")
    return array
