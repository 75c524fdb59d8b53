from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file, save_file
from sqlalchemy import func, select
from tiny_bundles import tiny_bundle

from registry import ledger, outbox
from registry.bundle_import import import_bundle
from registry.bundle_store import BundleStore
from registry.bundles.bundle import WEIGHTS, Bundle, hashed_files, weights_digest
from registry.bundles.card import Tier
from registry.database import Database
from registry.errors import (
    BadInputError,
    BundleError,
    ConflictError,
    IncompleteCardError,
    NotFoundError,
    NotPermittedError,
    ParityError,
)
from registry.identities import Identity, Role
from registry.tracking import Tracking
from registry.versions import VersionRef, VersionRow, ref

# MLflow's own, of its queries under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)

OPERATOR = Identity(name="olga", roles=frozenset({Role.OPERATOR}))

#: Imports a directory as a version of a model.
Import = Callable[..., VersionRow]


@pytest.fixture
def bring(database: Database, tracking: Tracking, now: datetime) -> Import:
    def run(
        directory: Path, model: str, *, base: str | None = None, by: Identity = OPERATOR
    ) -> VersionRow:
        return import_bundle(
            database,
            tracking,
            directory,
            model=model,
            base=VersionRef.parse(base) if base else None,
            by=by,
            at=now,
        )

    return run


@pytest.fixture
def copied(general_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle's directory, to be changed at will."""
    return Path(shutil.copytree(general_bundle.root, tmp_path / "copied"))


def versions(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count(VersionRow.id))) or 0


def test_an_imported_bundle_is_a_version_whose_files_can_be_opened_again(
    bring: Import,
    general_bundle: Bundle,
    database: Database,
    tracking: Tracking,
    tmp_path: Path,
) -> None:
    version = bring(general_bundle.root, "general")
    assert str(ref(version)) == "general@1"
    assert (version.tier, version.origin, version.created_by) == ("general", "import", "olga")
    assert version.bundle_digest == general_bundle.digest
    assert version.space == general_bundle.space
    assert version.dimension == general_bundle.dimension
    assert version.card == general_bundle.card.to_json()
    shutil.rmtree(tmp_path / "bundles", ignore_errors=True)
    opened = BundleStore(tracking, tmp_path / "cache").open(version)
    assert opened.root != general_bundle.root
    assert opened.digest == general_bundle.digest


def test_an_import_stands_in_the_ledger_and_waits_for_mlflow(
    bring: Import, general_bundle: Bundle, database: Database, tracking: Tracking
) -> None:
    version = bring(general_bundle.root, "general")
    with database.reading() as session:
        assert ledger.verify(session).valid
        (entry,) = ledger.entries(session, kind="version.registered")
    assert (entry.actor, entry.subject) == ("olga", "general@1")
    assert entry.facts["bundle"] == general_bundle.digest
    assert entry.facts["mlflow_run"] == version.mlflow_run
    assert outbox.deliver(database, tracking) == 1


def test_a_variant_descends_from_its_base(
    bring: Import, general_bundle: Bundle, task_bundle: Bundle
) -> None:
    base = bring(general_bundle.root, "general")
    variant = bring(task_bundle.root, "pneumonia", base="general@1")
    assert variant.base == base.id


def test_the_next_bundle_of_a_model_is_its_next_version(
    bring: Import, general_bundle: Bundle, copied: Path
) -> None:
    bring(general_bundle.root, "general")
    card = copied / "card.yaml"
    card.write_text(card.read_text().replace("any patient", "any person"))
    assert str(ref(bring(copied, "general"))) == "general@2"


def test_the_same_bundle_again_is_refused_by_the_name_it_has(
    bring: Import, general_bundle: Bundle, database: Database, tmp_path: Path
) -> None:
    bring(general_bundle.root, "general")
    with pytest.raises(ConflictError, match="already registered, as general@1"):
        bring(general_bundle.root, "general")
    assert versions(database) == 1
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 1  # nothing is left of the second


def test_a_base_below_its_variant_is_refused(
    bring: Import, general_bundle: Bundle, task_bundle: Bundle, database: Database
) -> None:
    bring(task_bundle.root, "pneumonia")
    with pytest.raises(BadInputError, match="pneumonia@1 is of the tier task, below general"):
        bring(general_bundle.root, "general", base="pneumonia@1")
    assert versions(database) == 1


def test_a_base_that_does_not_exist_is_refused_before_anything_is_stored(
    bring: Import, task_bundle: Bundle, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="general@3"):
        bring(task_bundle.root, "pneumonia", base="general@3")
    assert versions(database) == 0
    assert not (tmp_path / "artifacts").exists()


def test_a_model_keeps_its_tier(
    bring: Import, general_bundle: Bundle, task_bundle: Bundle, database: Database
) -> None:
    bring(general_bundle.root, "chest")
    with pytest.raises(ConflictError, match="chest is of the tier general, not task"):
        bring(task_bundle.root, "chest")
    assert versions(database) == 1


def test_who_is_no_operator_imports_nothing(
    bring: Import, general_bundle: Bundle, database: Database
) -> None:
    auditor = Identity(name="anna", roles=frozenset({Role.AUDITOR, Role.VIEWER}))
    with pytest.raises(NotPermittedError, match="anna may not import a version"):
        bring(general_bundle.root, "general", by=auditor)
    assert versions(database) == 0


def test_a_card_that_lacks_what_it_must_say_is_refused_with_all_that_it_lacks(
    bring: Import, copied: Path, database: Database
) -> None:
    card = copied / "card.yaml"
    kept = [line for line in card.read_text().splitlines() if not line.startswith("licence")]
    card.write_text("\n".join(kept).replace("purpose:", "purpose: ''  #"))
    with pytest.raises(IncompleteCardError) as caught:
        bring(copied, "general")
    assert set(caught.value.missing) == {"purpose", "licence"}
    assert versions(database) == 0


@pytest.mark.parametrize("stray", ["weights.pkl", "modelling.py", "notes.txt"])
def test_a_file_that_is_no_part_of_a_bundle_is_refused_unread(
    stray: str, bring: Import, copied: Path, database: Database
) -> None:
    (copied / stray).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(BundleError, match=stray):
        bring(copied, "general")
    assert versions(database) == 0


def test_a_parity_that_is_claimed_and_not_so_is_found_by_measuring(
    bring: Import, copied: Path, database: Database
) -> None:
    weights = load_file(copied / WEIGHTS)
    name = next(name for name in sorted(weights) if name.endswith("layernorm_after.weight"))
    save_file({**weights, name: weights[name] * np.float32(3)}, copied / WEIGHTS)
    claim = json.loads((copied / "parity.json").read_text())
    claim["weights"] = weights_digest(hashed_files(copied))
    (copied / "parity.json").write_text(json.dumps(claim))
    with pytest.raises(ParityError):
        bring(copied, "general")
    assert versions(database) == 0


def test_a_tier_is_the_card_s_own(bring: Import, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "organ", tier=Tier.ORGAN)
    assert bring(bundle.root, "lung").tier == "organ"
