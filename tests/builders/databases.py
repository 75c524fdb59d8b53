"""The databases on which a test runs."""

from __future__ import annotations

import pytest

#: Runs a test once on each database that Driftward supports: `pytestmark = on_each_database`,
#: or as a decorator. Without it, the fixture `database` is SQLite.
on_each_database = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
#: Runs it on PostgreSQL alone.
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
