"""`kill -9` at each point of embedding while scans come in by `storescu`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crashed_embedding import EMBED_POINTS, EmbeddingHome, embedding_home

from registry.crash_points import POINTS


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingHome]:
    with embedding_home(tmp_path_factory.mktemp("embedding")) as made:
        yield made


def test_every_point_of_embedding_is_crashed_at() -> None:
    assert [one for one in POINTS if one.startswith("embed:")] == [*EMBED_POINTS]


@pytest.mark.slow
@pytest.mark.parametrize("point", EMBED_POINTS)
def test_what_was_acknowledged_is_one_scan_that_each_version_read_once(
    home: EmbeddingHome, point: str
) -> None:
    crash = home.crash(point, after=1)
    assert crash.acknowledged > 0
    assert crash.sound, crash
