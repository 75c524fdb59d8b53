"""The wheel as it is built: what is in it, and that it works away from the checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = {"registry", "monitor", "retrain", "api"}

#: Runs Python on the installed wheel, from a folder of its own.
Run: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def content(wheel: Path) -> dict[str, int]:
    """Every file of the wheel with its size."""
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.file_size for item in archive.infolist()}


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-compile", "--disable-pip-version-check", "--target", target, wheel),
        ],
        check=True,
        capture_output=True,
    )
    return target


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    def python(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DRIFTWARD_")}
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, words)],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )

    return python


COMMAND_LINE = "from api.cli import main; main()"


def test_it_holds_the_four_packages_and_nothing_else(content: dict[str, int]) -> None:
    tops = {name.partition("/")[0] for name in content}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert not [name for name in content if re.search(r"(^|[/_])(con)?tests?([/_.]|$)", name)]
    assert not [name for name in content if name.endswith((".pyc", ".db", ".log"))]


def test_it_holds_every_file_that_the_checkout_has_in_its_packages(
    content: dict[str, int],
) -> None:
    there = {
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert there - content.keys() == set()


@pytest.mark.parametrize(
    "name",
    [
        "api/demo/sample/children.npz",
        "api/demo/sample/SHA256SUMS",
        "api/demo/sample/README.md",
        "api/demo/sample/licences/BSD-2-Clause-dcm_qa_nih.txt",
        "api/demo/encoder/model.safetensors",
        "api/demo/encoder/LICENSE-torchvision",
        "api/demo/configuration/plan.yaml",
        "api/demo/configuration/monitor.yaml",
        "api/demo/configuration/recipe.yaml",
        "api/pages/templates/base.html",
        "api/pages/static/driftward.css",
        "api/pages/static/vendor/echarts/echarts.common.min.js",
        "api/pages/static/vendor/echarts/LICENSE",
        "registry/migrations/env.py",
    ],
)
def test_it_holds_what_is_no_module(content: dict[str, int], name: str) -> None:
    assert content[name] > 0


def test_it_carries_its_licence_and_the_notice_of_what_it_ships(
    content: dict[str, int],
) -> None:
    carried = {Path(name).name for name in content if ".dist-info/licenses/" in name}
    assert carried == {"LICENSE", "NOTICE"}


def test_it_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "driftward = api.cli:main" in archive.read(name).decode()


def test_its_own_files_are_used_away_from_the_checkout(run: Run, installed: Path) -> None:
    done = run(
        "import api, registry, monitor, retrain\n"
        "print(*(module.__file__ for module in (api, registry, monitor, retrain)), sep='\\n')"
    )
    assert done.returncode == 0, done.stderr
    assert {Path(line).parents[1] for line in done.stdout.splitlines()} == {installed}


def test_help_is_printed(run: Run) -> None:
    done = run(COMMAND_LINE, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout


def test_a_home_is_made_and_found_whole(run: Run, tmp_path: Path) -> None:
    made = run(COMMAND_LINE, "init", "--home", tmp_path / "home", "--json")
    assert made.returncode == 0, made.stderr
    looked = run(COMMAND_LINE, "doctor", "--home", tmp_path / "home", "--json")
    assert looked.returncode == 0, looked.stdout
    assert {item["check"] for item in json.loads(looked.stdout)} >= {"home", "ledger", "MLflow"}


def test_the_demo_s_sample_is_read_and_whole(run: Run) -> None:
    done = run(
        "from api.demo.sample import load_sample\n"
        "sample = load_sample()\n"
        "print(len(sample.children), len(sample.adults), len(sample.magnetic))"
    )
    assert done.returncode == 0, done.stderr
    assert all(int(count) > 0 for count in done.stdout.split())
