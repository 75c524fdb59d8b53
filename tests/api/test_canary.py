"""No patient leaves intake: canaries in every element, and a search of everything afterwards."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from canaries import (
    AGE,
    NAME,
    UID_ROOT,
    WORD,
    canaries,
    canary,
    found_in,
    held_by,
    more_canaries,
    needles,
    write_canaries,
)
from canary_reports import broken_canary_files, canary_files
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from label_reports import MAPPING
from local_client import everybody
from running_receiver import receiving
from sqlalchemy import func, select
from tiny_bundles import CHILDREN, TASK, finding, tiny_bundle

from api.assembly import Driftward
from api.cli import main
from api.http.app import create_app
from api.initialising import initialise
from api.settings import Settings
from monitor.scans import ScanIntake
from monitor.tables import (
    EmbeddingRow,
    LabelRow,
    RefusalRow,
    ResultRow,
    ScanRow,
    SealedOriginalsRow,
)
from registry import serving
from registry.bundle_import import import_bundle
from registry.bundles.card import Tier
from retrain.scheduling import tick

REPOSITORY = Path(__file__).parents[2]
WANTED = needles()
MONITOR = f"""
name: chest
model: pneumonia
task: {TASK}
monitoring_encoder: general@1
window_hours: 24
alpha_per_week: 0.005
subgroup_attributes: [software_version]
floor: 20
"""
#: Beside the canaries, so that windows and subgroups have something in them.
MORE = 12

pytestmark = [
    # pydicom says what it thinks of the canaries' values; MLflow's own queries use a loader
    # that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]


@dataclass
class Played:
    """A home into which canaries were sent by every road, and all that it said."""

    home: Path
    said: dict[str, bytes] = field(default_factory=dict)

    @property
    def public_key(self) -> Path:
        """To which the originals are sealed; the private half is nowhere."""
        return self.home.with_name("public.pem")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DRIFTWARD_HOME": str(self.home),
            "DRIFTWARD_REIDENTIFICATION_KEY": str(self.public_key),
        }

    def look(self, *words: object, code: int | None = 0) -> None:
        """Run a command in this process, and keep what it said."""
        said = io.StringIO()
        ended = 0
        with (
            pytest.MonkeyPatch.context() as patched,
            redirect_stdout(said),
            redirect_stderr(said),
        ):
            for name, value in self.environment.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["driftward", *map(str, words)])
            try:
                main()
            except SystemExit as exit_:
                ended = int(exit_.code or 0)
        self.said[f"{len(self.said)}: {' '.join(map(str, words))}"] = said.getvalue().encode()
        assert code is None or ended == code, (words, said.getvalue())

    def run(self, *words: object, code: int | None = 0) -> bytes:
        """Run a command in a process of its own, and keep what it said."""
        done = subprocess.run(
            [sys.executable, "-c", "from api.cli import main; main()", *map(str, words)],
            cwd=REPOSITORY,
            env={**os.environ, **self.environment},
            capture_output=True,
            check=False,
        )
        name = f"{len(self.said)}: {' '.join(map(str, words))}".replace(NAME, "…")
        self.said[name] = done.stdout + done.stderr
        assert code is None or done.returncode == code, (name, done.stderr.decode())
        return done.stdout


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("played")
    inbox = tmp_path_factory.mktemp("inbox")
    played = Played(folder / "home")
    played.public_key.write_bytes(
        X25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    settings = Settings(home=played.home, device="cpu", threads=1)
    operator = initialise(settings, name="operator")
    driftward = Driftward.open(settings)
    _found(driftward, folder, operator)
    yesterday = driftward.clock.now() - timedelta(days=1)
    (folder / "monitor.yaml").write_text(f"{MONITOR}anchor: {yesterday.isoformat()}\n")
    played.look("monitor", "apply", folder / "monitor.yaml")

    sent = write_canaries(inbox)
    for number, content in enumerate(more_canaries(MORE)):
        (inbox / NAME / f"{WORD}-{number}.dcm").write_bytes(content)
    played.run("scan", "add", inbox, "--site", "north")
    assert sent == len(canaries())
    with receiving(played.home, "--site", "south", environment=played.environment) as receiver:
        statuses = receiver.store(*(canaries()[name] for name in ("readable", "burned in")))
        assert statuses == [0, 0]
        receiver.stop()
        played.said["receive"] = receiver.log.encode()

    _look_at_everything(played, inbox)
    played.look("key", "rotate", "--reason", "yearly")
    played.look("scan", "verify")
    played.run("scan", "add", inbox, "--site", "north")
    driftward.database.dispose()
    return played


def _found(driftward: Driftward, folder: Path, operator: object) -> None:
    general = tiny_bundle(folder / "general")
    task = tiny_bundle(
        folder / "task", tier=Tier.TASK, tasks=[finding()], intended_use=CHILDREN, seed=1
    )
    versions = [
        import_bundle(
            driftward.database,
            driftward.tracking,
            bundle.root,
            model=name,
            base=None,
            by=operator,  # type: ignore[arg-type]
            at=driftward.clock.now(),
        )
        for name, bundle in (("general", general), ("pneumonia", task))
    ]
    with driftward.database.transaction() as session:
        serving.move_champion(
            session,
            versions[1],
            expected=None,
            reason="test",
            kind="champion.promoted",
            actor="operator",
            at=driftward.clock.now(),
        )


def _look_at_everything(played: Played, inbox: Path) -> None:
    driftward = Driftward.open(Settings(home=played.home))
    tick(driftward.database, driftward.clock)
    driftward.database.dispose()
    played.run("work", "--drain")
    labels = inbox / "labels.csv"
    _write_labels(labels, f"{UID_ROOT}.3.1")
    played.look("label", "import", labels, "--site", "north")
    _write_labels(labels, f"{UID_ROOT}.3.999")
    played.look("label", "import", labels, "--site", "north", code=1)
    labels.write_text(f"{NAME},{WORD}\n1,2\n")
    played.look("label", "import", labels, "--site", "north", code=1)
    _report(played, inbox)
    played.look("work", "--drain")
    for words in (
        ("scan", "list"),
        ("scan", "show", 1),
        ("scan", "quarantine"),
        ("scan", "quarantine", "counts"),
        ("scan", "quarantine", "retry", "--all"),
        ("audit", "verify"),
        ("monitor", "show", "chest"),
        ("episode", "list"),
        ("model", "list"),
        ("key", "list"),
        ("scan", "verify"),
        ("label", "list"),
        ("label", "show", 1),
        ("label", "disputed"),
        ("label", "worklist"),
        ("label", "mapping", "show"),
    ):
        played.look(*words)
        played.look(*words, "--json")
    played.look("doctor", code=None)
    played.look("reference", "build", "chest", code=None)
    driftward = Driftward.open(Settings(home=played.home))
    item = next(item for item in driftward.quarantine.items() if item.reason == "burned_in")
    played.look("scan", "quarantine", "show", item.id)
    played.look("scan", "quarantine", "release", item.id, "--reason", "no text in it")
    _browse(played, driftward)
    driftward.database.dispose()


def _report(played: Played, inbox: Path) -> None:
    """Bring reports in that name patient and readers, and some that cannot be used."""
    mapping = inbox / "mapping.yaml"
    mapping.write_text(MAPPING)
    played.look("label", "mapping", "apply", mapping)
    for code, files in ((0, canary_files()), (1, broken_canary_files())):
        for name, content in files.items():
            (inbox / name).write_bytes(content)
            played.look("label", "import", inbox / name, "--site", "north", code=code)
    # In a process of its own libraries say what they think on its own output.
    played.run("label", "import", inbox / "value.dcm", "--site", "north", code=1)
    played.look("label", "worklist", "north", "--by-no-ai", "--since", "2026-01-01")


def _write_labels(path: Path, uid: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", "task", "value", "provenance", "reader", "signed_at"])
        writer.writerow([uid, TASK, 1, "dataset", NAME, "2026-03-02T12:00:00+00:00"])


def _browse(played: Played, driftward: Driftward) -> None:
    """Ask for every page, resource and figure."""
    quarantined = driftward.quarantine.items()[0].id
    with TestClient(
        create_app(driftward, recognise=everybody),
        base_url="http://127.0.0.1:8321",
        raise_server_exceptions=False,
    ) as client:
        paths = [*client.get("/openapi.json").json()["paths"], *_PAGES]
        for path in paths:
            filled = path.replace("{item}", quarantined)
            for name, value in _VALUES.items():
                filled = filled.replace(f"{{{name}}}", value)
            played.said[f"GET {path}"] = client.get(filled).content
        for name, content in {**canary_files(), **broken_canary_files()}.items():
            kind = "application/dicom" if name.endswith("dcm") else "application/fhir+json"
            answer = client.post(
                "/api/v1/labels/reports",
                params={"site": "north"},
                content=content,
                headers={"content-type": kind},
            )
            played.said[f"POST {name}"] = answer.content
            assert answer.status_code == (200 if name in canary_files() else 422), answer.text
        rows = {"labels": [{"instance": NAME, WORD: NAME}]}
        answer = client.post("/api/v1/labels", params={"site": "north"}, json=rows)
        played.said["POST rows"] = answer.content


_VALUES: Mapping[str, str] = {"name": "chest", "number": "1"}
_PAGES = (
    *("/", "/monitors", "/monitors/chest", "/runs", "/models", "/models/pneumonia"),
    *("/scans", "/scans/1", "/scans?refused=true", "/quarantine", "/ledger", "/nothing"),
    *(
        "/api/v1/scans/1/thumbnail.png",
        "/api/v1/models/pneumonia",
        "/quarantine?reason=burned_in",
    ),
)


def test_the_canaries_are_where_they_are_said_to_be() -> None:
    ds = canary(0)
    assert len(held_by(ds)) > 1500
    files = canaries()
    for name, content in files.items():
        assert found_in(content, WANTED), name
    for name, content in {**canary_files(), **broken_canary_files()}.items():
        assert found_in(content, WANTED), name
    for form in ("utf-8", "utf-16-le", "hexadecimal", "base64"):
        assert any(form in needle.what for needle in WANTED)
    assert found_in(f"<{WORD}>".encode("utf-16-le"), WANTED)


def test_the_canaries_went_through_all_of_it(played: Played) -> None:
    driftward = Driftward.open(Settings(home=played.home))
    with driftward.database.reading() as session:

        def count(table: type) -> int:
            return session.scalar(select(func.count()).select_from(table)) or 0

        assert count(ScanRow) == 10 + MORE + 1 + 1  # one by the network, one released
        assert session.scalar(select(func.max(ScanRow.age_years))) == 90
        assert count(SealedOriginalsRow) == count(ScanRow)
        for table in (EmbeddingRow, ResultRow, RefusalRow):
            assert count(table) > 0, table
        # One by a table, one by a report of one image, and of a study one for each image.
        assert count(LabelRow) == 1 + 1 + MORE
    reasons = {item.reason.value for item in driftward.quarantine.items()}
    assert reasons >= {"truncated", "not_dicom"}
    # The second time everything was known, under another key.
    again = next(
        text for name, text in reversed(played.said.items()) if "scan add" in name
    ).decode()
    assert again.startswith("0 scans added,")
    driftward.database.dispose()


def test_no_file_of_the_home_holds_a_canary(played: Played) -> None:
    files = [path for path in played.home.rglob("*") if path.is_file()]
    for part in ("driftward.db", "mlflow.db", ".dcm", ".quarantined", ".key"):
        assert any(path.name.endswith(part) for path in files), part
    hits = {
        str(path.relative_to(played.home)): found
        for path in files
        if (found := found_in(path.read_bytes(), WANTED))
    }
    assert hits == {}
    names = [str(path.relative_to(played.home)).encode() for path in files]
    assert found_in(b"\n".join(names), WANTED) == []


def test_no_stored_scan_holds_the_age_or_a_uid_of_a_canary(played: Played) -> None:
    for path in (played.home / "vault").rglob("*.dcm"):
        content = path.read_bytes()
        header = content[: content.find(b"\xe0\x7f\x10\x00")]
        assert AGE.encode() not in header
        assert b"1.2.826" not in header


def test_nothing_that_anybody_was_told_holds_a_canary(played: Played) -> None:
    assert len(played.said) > 40
    hits = {
        name: found for name, text in played.said.items() if (found := found_in(text, WANTED))
    }
    assert hits == {}


def test_no_error_names_the_patient_whose_file_broke_it(tmp_path: Path) -> None:
    """A fault of the database in the middle of a batch says nothing of its rows."""
    settings = Settings(home=tmp_path / "home")
    initialise(settings)
    driftward = Driftward.open(settings)
    intake: ScanIntake = driftward.intake
    arrival = intake.prepare(canaries()["readable"], site="north")
    with driftward.database.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE scans")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever the database raises
        intake.take([arrival])
    assert found_in(str(raised.value).encode(), WANTED) == []
    driftward.database.dispose()
