"""The rows that watches work on."""

from __future__ import annotations

import pytest
from retraining_rows import Retraining
from watched_rows import Watched


@pytest.fixture
def watched(retraining: Retraining) -> Watched:
    """A model whose plan will watch what is promoted."""
    return Watched(retraining)
