from __future__ import annotations

from pathlib import Path

import pytest
from series_home import Pair, SeriesHome
from tiny_bundles import finding, tiny_bundle

from registry.bundles.bundle import Bundle
from registry.bundles.card import Tier
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading
from registry.database import Database


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Assembles pairs of bundles, each once."""
    made: dict[tuple[Unit, Reading | None], tuple[Bundle, Bundle]] = {}

    def pair(unit: Unit = Unit.SERIES, reading: Reading | None = None) -> tuple[Bundle, Bundle]:
        if unit is not Unit.INSTANCE and reading is None:
            reading = Reading(at_most=3)
        if (unit, reading) not in made:
            folder = tmp_path_factory.mktemp("bundles")
            made[unit, reading] = (
                tiny_bundle(folder / "encoder", unit=unit, reading=reading),
                tiny_bundle(
                    folder / "champion",
                    tier=Tier.TASK,
                    tasks=[finding()],
                    seed=1,
                    unit=unit,
                    reading=reading,
                ),
            )
        return made[unit, reading]

    return pair


@pytest.fixture
def home(database: Database, tmp_path: Path) -> SeriesHome:
    return SeriesHome(database=database, root=tmp_path)


@pytest.fixture
def ct(home: SeriesHome, bundles: Pair) -> SeriesHome:
    """A home whose monitored model reads series."""
    encoder, champion = bundles()
    home.watch("nodules", encoder=encoder, champion=champion)
    return home
