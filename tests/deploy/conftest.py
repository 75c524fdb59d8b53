"""What tests of the deployment share: programs of others, and the figures that are served."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from fastapi.testclient import TestClient
from local_client import everybody

from api.assembly import Driftward
from api.http.app import create_app
from api.initialising import initialise
from api.settings import Settings
from monitor.receiving.counters import Counters

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
ADDRESS = "http://127.0.0.1:8321"

#: Where a program is, given its name and the package that brings it.
Program: TypeAlias = Callable[[str, str], str]
#: Name of a sample -> names of its labels.
Served: TypeAlias = dict[str, frozenset[str]]


@pytest.fixture(scope="session")
def program() -> Program:
    """Return where a program is; without it, a test fails in CI and is skipped elsewhere."""

    def find(name: str, package: str) -> str:
        beside = str(Path(sys.executable).parent)
        path = os.pathsep.join((beside, os.environ.get("PATH", ""), "/usr/sbin"))
        found = shutil.which(name, path=path)
        if found is None:
            why = f"{name} is missing: install {package}"
            if os.environ.get("CI"):
                pytest.fail(why)
            pytest.skip(why)
        return found

    return find


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driftward]:
    """A home as `driftward init` makes it."""
    home = tmp_path_factory.mktemp("deployed") / "home"
    initialise(Settings(home=home), name="operations")
    driftward = Driftward.open(Settings(home=home, checkpoint_folder=home.parent))
    yield driftward
    driftward.database.dispose()


@pytest.fixture(scope="session")
def served(installation: Driftward) -> Served:
    """Every sample that /metrics can have, of a home whose receiver runs."""
    app = create_app(installation, recognise=everybody)
    app.state.desk.verify()
    Counters.create(installation.home.receiver_counters, processes=1).beat()
    with TestClient(app, base_url=ADDRESS) as client:
        text = client.get("/metrics").text
    labels = {
        # A family without samples states its labels nowhere else.
        family.name: frozenset(getattr(family, "_labelnames", None) or ())
        for family in app.state.metrics.collect()
    }
    found: Served = {}
    for line in text.splitlines():
        if not line.startswith("# TYPE "):
            continue
        _, _, name, kind = line.split()
        own = labels[name.removesuffix("_total") if kind == "counter" else name]
        found[name] = own
        if kind == "histogram":
            found |= {f"{name}_sum": own, f"{name}_count": own, f"{name}_bucket": own | {"le"}}
    return found


@pytest.fixture(scope="session")
def alerts() -> dict[str, dict[str, Any]]:
    """Every alert rule by its name."""
    document = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}
