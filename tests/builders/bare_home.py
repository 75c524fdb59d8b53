"""A home with nothing in it but what it is known by; its tables are a test's database."""

from __future__ import annotations

from pathlib import Path

from api.settings import Home, Settings
from monitor.intake.keys import create_key
from registry.database import Database


def bare_home(folder: Path, database: Database) -> Settings:
    """Make one, for commands of which none takes scans in."""
    home = Home(root=folder)
    home.keys.mkdir(exist_ok=True)
    create_key(home.pseudonym_key)
    return Settings(home=folder, database_url=database.url)
