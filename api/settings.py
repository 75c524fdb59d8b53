"""Settings: the one module that reads the environment, and where things lie in a home."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
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
#: How long a server of MLflow's is waited for, where nobody says otherwise: MLflow's own values
#: (8 attempts of 120 seconds) hold whoever asks for twenty minutes.
BOUNDED = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
#: What is for this process alone.
SECRETS = frozenset(
    {
        "DRIFTWARD_TOKEN",
        "DRIFTWARD_TOKEN_FILE",
        "DRIFTWARD_SIGNING_PASSWORD_FILE",
        "DRIFTWARD_NEW_PASSWORD_FILE",
    }
)
for _name, _value in (UNTRACKED | BOUNDED).items():
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
    #: text is looked for in the pixels of what comes in, and quarantined; takes the extra `ocr`
    text_recognition: bool = False
    #: an X25519 public key in PEM, to which what pseudonyms stand for is sealed; by default
    #: it is kept by nobody
    reidentification_key: Path | None = None
    #: the token by which commands act, instead of the operating system's user; and a file that
    #: holds one
    token: SecretStr | None = None
    token_file: Path | None = None
    #: a file with the password, or the token, that a signature is given with; by default the
    #: command asks for it
    signing_password_file: Path | None = None
    #: a file with the password that a command is to set; by default it asks for it
    new_password_file: Path | None = None
    #: who may read /metrics: anybody, those on this machine, or those who are known
    metrics: Literal["open", "loopback", "known"] = "loopback"
    #: the address by which browsers reach the pages through a proxy that encrypts
    public_url: str | None = Field(
        default=None, pattern=r"^https://[A-Za-z0-9.-]+(:\d{1,5})?/?$"
    )
    #: the certificate with its chain, and the key, by which `serve` itself encrypts; PEM
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    #: what checkpoints of the ledger are signed with: a file, or an Ed25519 key in PEM itself;
    #: by default, the key that the home holds
    checkpoint_key: SecretStr | None = None
    #: where a checkpoint is put every day: a folder that nobody can change, at best on another
    #: machine; by default none is made
    checkpoint_folder: Path | None = None
    #: the process that this one ends with; set by whoever starts it beside itself
    parent: int | None = None
    #: a point at which a test has the process killed (`registry.crash_points`)
    crash_at: str | None = None
    #: how often that point is passed unharmed before
    crash_after: int = Field(default=0, ge=0)
    #: whether it is killed there, or stopped until somebody continues it
    crash_by: Literal["kill", "stop"] = "kill"

    def shown_token(self) -> str | None:
        """Return the token that the environment holds, if it holds one.

        Raises
        ------
        SetupError
            If it names a file that cannot be read, or both.
        """
        if self.token is not None and self.token_file is not None:
            raise SetupError("DRIFTWARD_TOKEN and DRIFTWARD_TOKEN_FILE are both set: unset one")
        if self.token is not None:
            return self.token.get_secret_value()
        return None if self.token_file is None else secret_of(self.token_file)


def secret_of(file: Path) -> str:
    """Return the first line of a file that holds a secret.

    Raises
    ------
    SetupError
        If it cannot be read, is empty, or others can read it.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{file} cannot be read: give a file that holds the secret") from error
    if mode & 0o077:
        raise SetupError(f"others can read {file}, which holds a secret: `chmod 600 {file}`")
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise SetupError(f"{file} is empty: its first line is to be the secret")
    return lines[0]


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
    """Return the environment of a process that is started beside this one, without secrets."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


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
    def checkpoint_key(self) -> Path:
        return self.keys / "checkpoints.key"

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
