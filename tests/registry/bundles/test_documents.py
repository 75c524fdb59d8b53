from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.bundles.documents import (
    LARGEST_DOCUMENT_BYTES,
    Section,
    parse_json,
    read_json,
    read_yaml,
    write_json,
    write_yaml,
)
from registry.errors import BundleError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ('{"a": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_json_that_reads_in_two_ways_or_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        parse_json(text, name="x.json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "'a' stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "must be a mapping"),
        ("1: a\n", "names as keys"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_yaml_that_is_more_than_a_plain_mapping_is_refused(
    text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(BundleError, match=says):
        read_yaml(tmp_path / "x.yaml")


@given(content=st.binary(max_size=200))
@example(content=b"? [a, b]\n: c\n")
@example(content=b"{a: 0x_}")
@example(content=b"a: 9999-99-99")
@example(content=b"a: !!int ''")
@example(content=b"a: !!bool b")
def test_any_bytes_are_a_document_or_a_clear_error(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    path.write_bytes(content)
    for read in (read_json, read_yaml):
        try:
            section = read(path)
        except BundleError:
            continue
        assert isinstance(section, Section)


def test_a_document_too_large_for_a_declaration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": "' + "x" * LARGEST_DOCUMENT_BYTES + '"}')
    with pytest.raises(BundleError, match=r"x\.json is larger than"):
        read_json(path)


def test_an_absent_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"x\.json cannot be read"):
        read_json(tmp_path / "x.json")


def test_what_nobody_asked_for_is_named() -> None:
    section = Section({"known": 1, "unknwon": 2, "other": 3}, name="card.yaml")
    assert section.integer("known") == 1
    with pytest.raises(BundleError, match=r"card\.yaml has keys .* 'other', 'unknwon'"):
        section.close()


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, "integer"),
        (True, "number"),
        (1.5, "integer"),
        ("1", "number"),
        (float("inf"), "number"),
        (1, "text"),
        ("  ", "text"),
        (["a", ""], "texts"),
        ("abc", "texts"),
        ({}, "sections"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(value: object, read: str) -> None:
    section = Section({"key": value}, name="x.json")
    with pytest.raises(BundleError, match=r"x\.json: 'key' must be"):
        getattr(section, read)("key")


def test_an_absent_key_is_named() -> None:
    with pytest.raises(BundleError, match="x lacks 'key'"):
        Section({}, name="x").text("key")


def test_null_stands_for_nothing_only_where_that_is_allowed() -> None:
    section = Section({"a": None, "b": None, "c": None, "d": None}, name="x")
    assert section.text_or_none("a") is None
    assert section.number_or_none("b") is None
    assert section.integers_or_none("c", count=2) is None
    with pytest.raises(BundleError, match="'d' must be a finite number"):
        section.number("d")
    with pytest.raises(BundleError, match="lacks 'e'"):
        section.number_or_none("e")


# What a person writes. YAML folds some control characters and line separators.
words = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"),
    min_size=1,
)


@given(
    value=st.dictionaries(
        words,
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.lists(words),
        max_size=6,
    )
)
@settings(max_examples=50)
def test_what_is_written_reads_back_and_gives_the_same_bytes(
    value: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("written")
    for write, read, name in (
        (write_json, read_json, "x.json"),
        (write_yaml, read_yaml, "x.yaml"),
    ):
        write(folder / name, value)  # type: ignore[arg-type]
        first = (folder / name).read_bytes()
        section = read(folder / name)
        assert {key: section.take(key) for key in section.names()} == value
        write(folder / name, value)  # type: ignore[arg-type]
        assert (folder / name).read_bytes() == first
