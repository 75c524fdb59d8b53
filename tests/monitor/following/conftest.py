from __future__ import annotations

import pytest
from followed_history import FollowedHistory
from monitored_history import History


@pytest.fixture
def followed(history: History) -> FollowedHistory:
    """Streams without a burn-in, and no scan yet."""
    return FollowedHistory(history)
