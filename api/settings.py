"""Settings: the one module that reads the environment, and where things lie in a home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from registry.errors import SetupError

DEFAULT_HOME = Path("driftward-home")
#: No library reports to its makers from a hospital: MLflow, Evidently and Hugging Face would.
UNTRACKED = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in UNTRACKED.items():
    os.environ.setdefault(_name, _value)


class Settings(BaseSettings):
    """What the environment can set; each as DRIFTWARD_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="DRIFTWARD_", extra="ignore")

    #: where everything is kept
    home: Path = DEFAULT_HOME
    #: SQLAlchemy URL; by default SQLite inside the home
    database_url: str | None = None
    #: MLflow tracking URI; by default SQLite inside the home
    mlflow_uri: str | None = None
    #: "auto", "cpu" or "cuda"
    device: str = "auto"
    #: threads of one forward pass or training; 0 takes every core
    threads: int = Field(default=0, ge=0)
    #: "host:port" of a Ray cluster's head, or "auto", to train there instead of on this machine
    ray_address: str | None = Field(default=None, pattern=r"^(auto|.+:\d{1,5})$")
    #: GPUs that a training asks of a Ray cluster
    ray_gpus: float = Field(default=0, ge=0)
    #: days that refused files stay in quarantine, from their first refusal
    quarantine_days: int = Field(default=30, ge=0)
    #: what is kept of the day of a study: nothing, a day shifted per patient, or its month
    study_time: Literal["removed", "shifted", "month"] = "removed"
    #: an X25519 public key in PEM, to which what pseudonyms stand for is sealed; by default
    #: it is kept by nobody
    reidentification_key: Path | None = None
    #: the process that this one ends with; set by whoever starts it beside itself
    parent: int | None = None
    #: a point at which a test has the process killed (`registry.crash_points`)
    crash_at: str | None = None
    #: how often that point is passed unharmed before
    crash_after: int = Field(default=0, ge=0)


def chosen(home: Path | None) -> Settings:
    """Return the settings of the environment, with the home that a command names.

    Raises
    ------
    SetupError
        If a variable holds what cannot be set; its value may be a secret, and is not said.
    """
    try:
        return Settings() if home is None else Settings(home=home)
    except ValidationError as error:
        problems = [
            f"DRIFTWARD_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
    raise SetupError(f"{'; '.join(problems)}: correct the environment")


def environment() -> dict[str, str]:
    """Return the environment of a process that is started beside this one."""
    return dict(os.environ)


def training_environment() -> dict[str, str]:
    """Return the environment of a training subprocess.

    Its threads sleep while they wait for each other: spinning, as they do by
    default, wastes a machine that has other work (libgomp, OMP_WAIT_POLICY).
    cuBLAS repeats itself only with a workspace of a fixed size.
    """
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **environment(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The files of one installation."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "driftward.db"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def pseudonym_key(self) -> Path:
        return self.keys / "pseudonyms.key"

    @property
    def quarantine_key(self) -> Path:
        return self.keys / "quarantine.key"

    @property
    def profiles(self) -> Path:
        return self.root / "profiles"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def receiver(self) -> Path:
        """Who may send to the DICOM port; where there is none, `up` opens no port."""
        return self.root / "receiver.yaml"

    @property
    def receiver_lock(self) -> Path:
        return self.work / "receiver.lock"

    @property
    def receiver_counters(self) -> Path:
        return self.work / "receiver.counters"

    @property
    def logs(self) -> Path:
        return self.root / "logs"
