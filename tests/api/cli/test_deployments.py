from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from registry.bundles.bundle import Bundle


def test_a_runtime_is_declared_attested_and_withdrawn(
    driftward: Callable[..., Any], home: Path, general_bundle: Bundle
) -> None:
    driftward(
        *("model", "import", general_bundle.root, "--name", "general", "--tier", "general")
    )
    declared = driftward("deployment", "declare", "general", "--site", "north", "--hours", 4)
    assert declared.code == 0
    assert "general, north: pending, no version was promoted yet" in declared.stdout
    [listed] = driftward("deployment", "list", "--json").document
    assert (listed["deployment"], listed["champion"]) == ("north", None)
    assert listed["runtime"]["silent_after_hours"] == 4
    said = driftward(
        *("deployment", "attest", "general", "--site", "north", "--digest", "a" * 64, "--json")
    )
    assert said.document["runtime"]["state"] == "wrong"
    assert "aaaaaaaaaaaa, which is no version" in driftward("deployment", "list").stdout
    driftward("deployment", "withdraw", "general", "--site", "north", "--reason", "moved")
    assert driftward("deployment", "list", "--json").document == []
    again = driftward("deployment", "attest", "general", "--digest", "a" * 64)
    assert again.code == 1
    assert "no runtime of general was declared at everywhere" in again.stderr
