from __future__ import annotations

import subprocess
import sys

LISTED = "import {}; from registry.database import Base; print(*sorted(Base.metadata.tables))"
EVERY_MODULE = """
import importlib, pkgutil
for package in ("registry", "monitor", "retrain", "api"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if "migrations" not in module.name and not module.name.endswith("_worker"):
            importlib.import_module(module.name)
from registry.database import Base
print(*sorted(Base.metadata.tables))
"""


def _tables(code: str) -> list[str]:
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return ran.stdout.split()


def test_an_installation_knows_every_table_whatever_a_command_loads() -> None:
    """The ledger's verification and the migrations go by the tables that are declared."""
    assert _tables(LISTED.format("api.assembly")) == _tables(EVERY_MODULE)


def test_opening_an_installation_loads_no_heavy_library() -> None:
    code = (
        "import sys, api.assembly; print(*(set(sys.modules) & "
        "{'torch', 'mlflow', 'evidently', 'transformers', 'onnxruntime', 'scipy.stats'}))"
    )
    assert _tables(code) == []
