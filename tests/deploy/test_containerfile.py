"""The container file: the rules that matter, read from its instructions."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction of a container file, its lines joined."""

    name: str
    value: str
    stage: int  #: -1 before the first FROM


def instructions() -> list[Instruction]:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, value = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(name=name, value=" ".join(value.split()), stage=stage))
    return found


def of(name: str, *, stage: int | None = None) -> list[str]:
    return [
        one.value
        for one in instructions()
        if one.name == name and (stage is None or one.stage == stage)
    ]


LAST = max(one.stage for one in instructions())


def test_each_stage_begins_with_one_pinned_image() -> None:
    (image,) = [
        value.partition("=")[2] for value in of("ARG", stage=-1) if value[0:6] == "PYTHON"
    ]
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-[a-z]+", image)
    assert {value.split()[0] for value in of("FROM")} == {"${PYTHON_IMAGE}"}
    assert LAST == 1


def test_it_runs_as_a_user_who_is_not_root() -> None:
    (user,) = of("USER", stage=LAST)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    names = [one.name for one in instructions() if one.stage == LAST]
    assert "RUN" not in names[names.index("USER") :]


def test_nothing_is_added_from_elsewhere() -> None:
    assert of("ADD") == []
    shells = " ".join(of("RUN"))
    assert not re.search(r"\b(curl|wget|git|apt-get)\b", shells)


def test_whatever_is_copied_exists_and_goes_into_the_build() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for value in of("COPY"):
        if value.startswith("--from="):
            continue
        *sources, _ = value.split()
        copied |= {source.rstrip("/") for source in sources}
    assert [source for source in copied if not (REPOSITORY / source).exists()] == []
    assert copied == allowed


def test_all_versions_are_pinned_and_it_can_be_built_without_a_network() -> None:
    (build,) = of("RUN", stage=0)
    assert "deploy/install.sh" in build
    assert {value.partition("=")[0] for value in of("ARG", stage=0)} == {
        "WHEELHOUSE",
        "TORCH_INDEX",
    }
    script = (DEPLOY / "install.sh").read_text(encoding="utf-8")
    installs = re.findall(r"-m pip install(.*?)(?<!\\)\n", script, flags=re.DOTALL)
    assert len(installs) == 3
    for line in installs:
        assert "constraints.txt" in line
    assert '--no-index --find-links "$(cd "$WHEELHOUSE" && pwd)"' in script


def test_no_secret_is_part_of_it() -> None:
    for name in ("ARG", "ENV"):
        for value in of(name):
            assert not re.search(r"(?i)password|secret|token|private", value)


def test_it_says_whether_it_is_ready_and_is_one_image_for_every_process() -> None:
    (health,) = of("HEALTHCHECK", stage=LAST)
    assert health.endswith('CMD ["python", "/opt/driftward/probe.py", "serve"]')
    assert [json.loads(value) for value in of("ENTRYPOINT")] == [["driftward"]]
    assert [json.loads(value) for value in of("CMD", stage=LAST)] == [["serve"]]
    (labels,) = of("LABEL", stage=LAST)
    assert f'image.version="{distribution("driftward").version}"' in labels
    assert 'image.licenses="Apache-2.0"' in labels


def test_everything_that_driftward_needs_is_pinned() -> None:
    pinned = {
        canonicalize_name(line.partition("==")[0])
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    needed, waiting = set(), ["driftward", "hatchling"]
    while waiting:
        name = waiting.pop()
        for text in requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate(
                {"extra": ""}
            ):
                continue
            found = canonicalize_name(requirement.name)
            if found not in needed:
                needed.add(found)
                waiting.append(found)
    assert len(needed) > 30
    assert needed - pinned == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_that_a_plain_shell_takes(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.stat().st_mode & 0o111 == 0o111
    assert "set -eu" in script.read_text(encoding="utf-8").splitlines()


def test_an_installation_is_never_written_over(tmp_path: Path) -> None:
    there = tmp_path / "bin" / "driftward"
    there.parent.mkdir()
    there.write_text("", encoding="utf-8")
    done = subprocess.run(
        [DEPLOY / "install.sh", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "holds a Driftward already" in done.stderr
