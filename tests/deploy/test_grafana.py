"""The dashboard: what Grafana needs of it, and that every figure it asks for is served."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.deploy.conftest import Program, Served

DEPLOY = Path(__file__).parents[2] / "deploy"
TEMPLATED = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    path = DEPLOY / "grafana" / "driftward.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def queries(dashboard: dict[str, Any]) -> list[str]:
    return [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]


def test_it_can_be_provisioned_anywhere(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"] == "driftward"
    # A number would be taken for that of a dashboard that exists already.
    assert dashboard.get("id") is None
    assert dashboard["schemaVersion"] >= 39
    variables = {one["name"]: one["type"] for one in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "monitor": "query"}


def test_each_panel_asks_the_chosen_data_source(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == TEMPLATED, panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == TEMPLATED, panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]


def test_each_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels if not panel.get("description")] == []
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_no_two_panels_lie_on_each_other(dashboard: dict[str, Any]) -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }

    for one, other in combinations(dashboard["panels"], 2):
        assert cells(one).isdisjoint(cells(other)), (one["title"], other["title"])
    assert all(x < 24 for panel in dashboard["panels"] for x, _ in cells(panel))


def test_every_figure_is_served(queries: list[str], served: Served) -> None:
    for query in queries:
        names = re.findall(r"\bdriftward_\w+", query)
        assert names or "up{" in query, query
        assert [name for name in names if name not in served] == [], query


def test_every_label_of_a_legend_or_a_choice_is_served(
    dashboard: dict[str, Any], served: Served
) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            names = re.findall(r"\bdriftward_\w+", query)
            chosen = re.findall(r'(\w+)\s*=~?\s*"', query) if names else []
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            grouped = [
                label.strip()
                for labels in re.findall(r"by \(([^)]*)\)", query)
                for label in labels.split(",")
            ]
            for name in names:
                assert {*chosen, *shown, *grouped} <= served[name], (panel["title"], query)


def test_every_query_is_one(queries: list[str], program: Program, tmp_path: Path) -> None:
    rules = [
        {"record": f"tried:{number}:query", "expr": query.replace("$monitor", ".*")}
        for number, query in enumerate(queries)
    ]
    written = tmp_path / "queries.yml"
    written.write_text(
        yaml.safe_dump({"groups": [{"name": "tried", "rules": rules}]}), encoding="utf-8"
    )
    promtool = program("promtool", "Debian's prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", written], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_is_provisioned_under_the_name_that_its_queries_expect(
    dashboard: dict[str, Any],
) -> None:
    text = (DEPLOY / "compose" / "grafana" / "datasource.yml").read_text(encoding="utf-8")
    (source,) = yaml.safe_load(text)["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (choice,) = [one for one in dashboard["templating"]["list"] if one["name"] == "datasource"]
    assert choice["query"] == source["type"]
