from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from label_reports import image
from labelled_home import LabelledHome


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LabelledHome:
    """Three studies of one radiograph, and one of two."""
    images = [image(1, study=study) for study in (1, 2, 3, 4)]
    return LabelledHome.founded(
        tmp_path_factory.mktemp("labelled"), [*images, image(2, series=2, study=4)]
    )


@pytest.fixture
def home(founded: LabelledHome, tmp_path: Path) -> Iterator[LabelledHome]:
    made = founded.copied(tmp_path)
    yield made
    made.driftward.database.dispose()
