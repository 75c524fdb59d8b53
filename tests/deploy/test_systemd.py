"""The units: systemd takes them, they start what exists, and little is open to them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main

from api.cli.documentation import commands
from api.cli.main import app

if TYPE_CHECKING:
    from tests.deploy.conftest import Program

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
LONG_RUNNING = [name for name in SERVICES if name != "driftward-verify.service"]
INSTALLED = "/opt/driftward/bin/"
COMMANDS = dict(commands(typer.main.get_group(app), "driftward"))
#: systemd's own measure, 0 (closed) to 100 (open).
MOST_EXPOSED = 20


def read(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name, encoding="utf-8")
    return parser


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they are installed, their programs those of this environment."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    beside = f"{Path(sys.executable).parent}/"
    for unit in folder.glob("*.service"):
        text = unit.read_text(encoding="utf-8")
        assert INSTALLED in text
        unit.write_text(text.replace(INSTALLED, beside), encoding="utf-8")
    return folder


def test_systemd_takes_every_unit(units: Path, program: Program) -> None:
    analyze = program("systemd-analyze", "Debian's systemd")
    names = sorted(path for path in units.iterdir() if path.is_file())
    done = subprocess.run(
        [analyze, "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "driftward" in line]
    assert (done.returncode, ours) == (0, [])


def test_systemd_would_name_a_mistake(units: Path, program: Program) -> None:
    analyze = program("systemd-analyze", "Debian's systemd")
    unit = units / "driftward-work.service"
    text = unit.read_text(encoding="utf-8")
    unit.write_text(text.replace("MemoryMax=", "MemoryMost="), encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "MemoryMost" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_little_of_the_machine_is_open_to_a_service(
    name: str, units: Path, program: Program
) -> None:
    analyze = program("systemd-analyze", "Debian's systemd")
    done = subprocess.run(
        [
            *(analyze, "security", "--offline=true", "--no-pager"),
            *(f"--threshold={MOST_EXPOSED}", units / name),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_starts_a_command_that_exists(name: str) -> None:
    words = shlex.split(read(name)["Service"]["ExecStart"])
    assert words[0] == f"{INSTALLED}driftward"
    given = [word for word in words[1:] if not word.startswith("--")]
    paths = {" ".join(["driftward", *given[:length]]) for length in (1, 2)}
    (command,) = [COMMANDS[path] for path in paths if path in COMMANDS]
    known = {name for param in command.params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_comes_back_and_has_its_bounds(name: str) -> None:
    service = read(name)["Service"]
    assert service["Restart"] == "always"
    assert {"MemoryMax", "TasksMax", "TimeoutStopSec"} <= set(service)


def test_every_service_is_hardened_alike() -> None:
    (drop_in,) = (UNITS / "driftward-.service.d").iterdir()
    text = drop_in.read_text(encoding="utf-8")
    for line in (
        "User=driftward",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=driftward",
        "CapabilityBoundingSet=",
        "UMask=0077",
    ):
        assert line in text.splitlines(), line
    # A drop-in wins over its unit: what units decide by themselves must not stand in it.
    assert not {"Type", "Restart", "MemoryMax", "IPAddressDeny"} & {
        line.partition("=")[0] for line in text.splitlines()
    }
    users = (UNITS.parent / "sysusers.d" / "driftward.conf").read_text(encoding="utf-8")
    assert users.startswith("u driftward ")


@pytest.mark.parametrize("name", ["driftward-serve.service", "driftward-work.service"])
def test_what_needs_no_network_has_none(name: str) -> None:
    service = read(name)["Service"]
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == ("any", "localhost")


def test_the_target_brings_up_all_of_them() -> None:
    wanted = read("driftward.target")["Unit"]["Wants"].split()
    there = {path.name for path in UNITS.iterdir() if path.suffix in {".service", ".timer"}}
    assert set(wanted) == there - {"driftward-verify.service"}
