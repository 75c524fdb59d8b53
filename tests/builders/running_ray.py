"""A Ray cluster of one node on this machine, with ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from running_orthanc import free_port

_RAY = Path(sys.executable).with_name("ray")


@contextmanager
def ray_cluster(*, cpus: int = 2) -> Iterator[str]:
    """Start a cluster, yield its address, and end it."""
    # Its sockets' paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port = free_port()
    command = [
        str(_RAY),
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--include-dashboard=false",
        "--node-ip-address=127.0.0.1",
        f"--num-cpus={cpus}",
        "--num-gpus=0",
        "--object-store-memory=200000000",
        f"--port={port}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--dashboard-agent-grpc-port={free_port()}",
        f"--metrics-export-port={free_port()}",
        f"--runtime-env-agent-port={free_port()}",
        f"--temp-dir={folder}",
    ]
    log = (folder / "start.log").open("wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=os.environ, start_new_session=True
    )
    try:
        _wait(process, folder / "start.log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    latest = time.monotonic() + 90
    while "Ray runtime started" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > latest:
            raise AssertionError(log.read_text(errors="replace")[-2000:])
        time.sleep(0.2)
