"""What is compressed waits for its decoder, and nobody else waits for it."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from databases import on_sqlite
from dicom_instances import as_file, radiograph, set_frames
from PIL import Image
from pydicom.uid import JPEG2000Lossless
from running_receiver import RunningReceiver, receiving
from sources_home import until

from monitor.receiving.counters import Counted, Counters

pytestmark = on_sqlite

ROOT = "1.2.826.0.1.3680043.8.498.66"
COMPRESSED = 4
#: Bytes of instances on their way: the least that can be set.
ROOM = 1 << 20


def compressed(number: int, *, side: int = 32) -> bytes:
    """Return an image whose noise is no smaller compressed."""
    samples = np.random.default_rng(number).integers(0, 256, (side, side)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "JPEG2000", no_jp2=True)
    ds = radiograph(samples, SOPInstanceUID=f"{ROOT}.1.{number}")
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEG2000Lossless)
    return as_file(ds)


def decoders(receiver: RunningReceiver) -> list[int]:
    """Return the processes in which compressed images are decoded."""
    children = [
        int(child)
        for process in receiver.children()
        for listed in Path(f"/proc/{process}/task").glob("*/children")
        for child in listed.read_text().split()
    ]
    return [
        child
        for child in children
        if b"decoding_worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.parametrize("side", [32, 700], ids=["threads", "memory"])
def test_a_decoder_that_is_busy_holds_up_nothing_that_is_not_compressed(
    home: Path, tmp_path: Path, side: int
) -> None:
    """Neither what prepares nor the room of what is on its way is taken by what is compressed."""
    config = tmp_path / "receiver.yaml"
    config.write_text(f"site: north\nprocesses: 1\nlimits: {{pending_bytes: {ROOM}}}\n")
    done: list[str] = []

    def send(name: str, content: bytes) -> None:
        assert receiver.store(content) == [0]
        done.append(name)

    with receiving(home, "--config", str(config)) as receiver:
        send("first", compressed(0))
        (decoder,) = decoders(receiver)
        os.kill(decoder, signal.SIGSTOP)
        files = [compressed(number, side=side) for number in range(1, 1 + COMPRESSED)]
        waiting = [threading.Thread(target=send, args=("compressed", one)) for one in files]
        for thread in waiting:
            thread.start()
        counters = Counters.of_running(receiver.driftward.home.receiver_counters)
        assert counters is not None
        all_of_it = min(sum(map(len, files)), ROOM // 2)

        def is_full() -> bool:
            return counters.totals().counts[Counted.PENDING_BYTES] > 0.8 * all_of_it

        until(is_full)
        send("native", as_file(radiograph(SOPInstanceUID=f"{ROOT}.2")))
        assert done == ["first", "native"]
        os.kill(decoder, signal.SIGCONT)
        for thread in waiting:
            thread.join()
        assert len(done) == 2 + COMPRESSED
