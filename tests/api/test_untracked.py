"""No library reports to its makers."""

from __future__ import annotations

import os
import subprocess
import sys

from api.settings import UNTRACKED

ASK = """
import api.settings
from huggingface_hub import constants
from mlflow.telemetry.utils import is_telemetry_disabled
print(is_telemetry_disabled(), constants.HF_HUB_DISABLE_TELEMETRY, constants.HF_HUB_OFFLINE)
"""


def test_libraries_are_told_to_report_nothing_before_they_are_loaded() -> None:
    environment = {name: one for name, one in os.environ.items() if name not in UNTRACKED}
    environment.pop("CI", None)
    told = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["True", "True", "True"]
