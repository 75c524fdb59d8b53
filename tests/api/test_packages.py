"""What holds of the code as a whole: who owns the names, who imports what, how long a module is."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

from api.doctor import OUR_PACKAGES, foreign_owners

REPOSITORY = Path(__file__).parents[2]
LONGEST_MODULE = 500


@cache
def modules() -> dict[str, Path]:
    """Return every module of ours by its name."""
    paths = [path for name in OUR_PACKAGES for path in (REPOSITORY / name).rglob("*.py")]
    return {module_name(path): path for path in paths}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(name: str) -> Iterator[str]:
    """Yield what a module imports, wherever in it the import stands."""
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{source}.{alias.name}" for alias in node.names)


def importers(library: str) -> list[str]:
    return [
        name
        for name in modules()
        if any(f"{what}.".startswith(f"{library}.") for what in imported(name))
    ]


def test_our_four_packages_belong_to_no_other_distribution() -> None:
    assert foreign_owners() == {}


def test_another_distribution_that_brings_one_of_our_names_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "__init__.py").touch()
    record = tmp_path / "intruder-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1.0\n")
    (record / "RECORD").write_text("registry/__init__.py,,\nintruder-1.0.dist-info/RECORD,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert foreign_owners() == {"registry": ["intruder"]}


def test_statistics_know_arrays_and_our_errors_and_nothing_else() -> None:
    allowed = {"numpy", "scipy", "torch", "threadpoolctl"} | sys.stdlib_module_names
    names = [name for name in modules() if f"{name}.".startswith("monitor.statistics.")]
    assert len(names) > 10
    strays = [
        f"{name} imports {what}"
        for name in names
        for what in imported(name)
        if what.partition(".")[0] not in allowed
        and not what.startswith(("registry.errors.", "monitor.statistics."))
    ]
    assert strays == []


def test_one_module_imports_mlflow() -> None:
    assert importers("mlflow") == ["registry.tracking"]


def test_at_most_one_module_imports_evidently() -> None:
    assert len(importers("evidently")) <= 1


def test_one_module_reads_the_environment() -> None:
    assert importers("pydantic_settings") == ["api.settings"]
    strays = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(tree_of(path))
        if name != "api.settings"
        and isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
    ]
    assert strays == []
    assert importers("os.environ") == importers("os.getenv") == []


def test_nothing_that_runs_when_it_is_read_is_ever_read() -> None:
    assert [name for library in ("pickle", "joblib") for name in importers(library)] == []
    (mlflow_s,) = importers("mlflow")
    attributes = {
        node.attr
        for node in ast.walk(tree_of(modules()[mlflow_s]))
        if isinstance(node, ast.Attribute)
    }
    assert "load_model" not in attributes


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in modules().items()
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_no_module_is_a_dumping_ground() -> None:
    forbidden = {"utils", "helpers", "common", "misc", "core", "manager"}
    assert [name for name in modules() if forbidden & set(name.split("."))] == []


def test_help_is_printed_without_loading_what_is_heavy() -> None:
    program = (
        "import sys\n"
        "from api.cli import main\n"
        "sys.argv = ['driftward', '--help']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    heavy = {
        "alembic", "evidently", "fastapi", "mlflow", "numpy", "onnx", "onnxruntime", "pandas",
        "pydantic", "pydicom", "scipy", "sqlalchemy", "torch", "transformers",
    }  # fmt: skip
    assert loaded & heavy == set()
    assert done.stdout.lstrip().startswith("Usage: driftward")
