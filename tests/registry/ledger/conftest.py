"""What tests of the ledger share: five entries, each with a row that it seals."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sealed_examples import add_identity

from registry.database import Database
from registry.ledger.checkpoint_keys import SigningKey, create_signing_key


@pytest.fixture
def recorded(database: Database, now: datetime) -> Database:
    for number in range(5):
        with database.transaction() as session:
            add_identity(session, f"person-{number}", now + timedelta(minutes=number))
    return database


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return create_signing_key(tmp_path / "checkpoints.key")
