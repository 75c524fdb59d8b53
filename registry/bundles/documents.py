"""Strict reading of a bundle's JSON and YAML: what is not known is an error that names it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

import yaml

from registry.canonical import Json
from registry.errors import BundleError

Choice = TypeVar("Choice", bound=Enum)

# A declaration is a few kilobytes; a megabyte leaves room for a long list of
# training data and none for a document that is meant to exhaust the reader.
LARGEST_DOCUMENT_BYTES = 1 << 20


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys and without aliases, which can multiply a document's size."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "aliases are not allowed",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[object, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} stands twice or is no name", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    mapping: dict[str, Json] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"key {key!r} stands twice")
        mapping[key] = value
    return mapping


def _finite(text: str) -> float:
    raise ValueError(f"{text} is not a number that can be stored")


def parse_json(text: str, *, name: str) -> Json:
    """Return the value of a JSON text without duplicate keys, NaN or infinity.

    Raises
    ------
    BundleError
        If the text is not such JSON; `name` says which document it was.
    """
    try:
        value: Json = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not valid JSON: {error}") from error
    return value


def read_text(path: Path) -> str:
    """Return the text of a small UTF-8 file.

    Raises
    ------
    BundleError
        If the file is absent, too large for a declaration, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST_DOCUMENT_BYTES:
        raise BundleError(f"{path.name} is larger than {LARGEST_DOCUMENT_BYTES} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path.name} is not UTF-8 text") from error


def read_json(path: Path) -> Section:
    """Return the JSON object in the file `path`; see `parse_json`."""
    return Section(parse_json(read_text(path), name=path.name), name=path.name)


def read_yaml(path: Path) -> Section:
    """Return the YAML mapping in the file `path`, without duplicate keys, aliases or tags.

    Raises
    ------
    BundleError
        If the file is not such a mapping.
    """
    text = read_text(path)
    try:
        # A subclass of SafeLoader: no Python object is ever constructed.
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except Exception as error:  # PyYAML lets through what a value provokes in a constructor
        raise BundleError(f"{path.name} is not valid YAML: {error}") from error
    return Section(value, name=path.name)


class Section:
    """A mapping that is read key by key; what nobody asked for is refused by `close`.

    Parameters
    ----------
    value : what the document holds at this place
    name : where that is, for messages
    """

    def __init__(self, value: object, *, name: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise BundleError(f"{name} must be a mapping with names as keys")
        self.name = name
        self._left: dict[str, object] = dict(value)

    def names(self) -> tuple[str, ...]:
        """Return the keys that are left, for a mapping whose keys are data."""
        return tuple(self._left)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def is_empty(self, key: str) -> bool:
        """Say whether `key` is absent, null, blank, or an empty list or mapping."""
        value = self._left.get(key)
        if isinstance(value, str):
            return not value.strip()
        return value is None or value in ([], {})

    def take(self, key: str) -> object:
        """Return the value of `key`, which must be there, and mark it as read."""
        if key not in self._left:
            raise BundleError(f"{self.name} lacks {key!r}")
        return self._left.pop(key)

    def text(self, key: str) -> str:
        """Return a text that is not blank."""
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(key, "text")
        return value.strip()

    def integer(self, key: str) -> int:
        """Return a whole number."""
        return _as_integer(self.take(key), wrong=self._wrong(key, "a whole number"))

    def number(self, key: str) -> float:
        """Return a finite number."""
        return _as_number(self.take(key), wrong=self._wrong(key, "a finite number"))

    def integers(self, key: str, *, count: int) -> tuple[int, ...]:
        """Return `count` whole numbers."""
        wrong = self._wrong(key, f"a list of {count} whole numbers")
        return tuple(_as_integer(item, wrong=wrong) for item in self._list(key, count, wrong))

    def text_or_none(self, key: str) -> str | None:
        """Return a text that is not blank, or None where null stands."""
        return None if self._took_null(key) else self.text(key)

    def number_or_none(self, key: str) -> float | None:
        """Return a finite number, or None where null stands."""
        return None if self._took_null(key) else self.number(key)

    def integers_or_none(self, key: str, *, count: int) -> tuple[int, ...] | None:
        """Return `count` whole numbers, or None where null stands."""
        return None if self._took_null(key) else self.integers(key, count=count)

    def numbers(self, key: str, *, count: int) -> tuple[float, ...]:
        """Return `count` finite numbers."""
        wrong = self._wrong(key, f"a list of {count} finite numbers")
        return tuple(_as_number(item, wrong=wrong) for item in self._list(key, count, wrong))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, none of them blank."""
        wrong = self._wrong(key, "a list of texts")
        items = self._list(key, None, wrong)
        if not all(isinstance(item, str) and item.strip() for item in items):
            raise wrong
        return tuple(str(item).strip() for item in items)

    def choice(self, key: str, kind: type[Choice]) -> Choice:
        """Return the member of the enumeration `kind` whose value stands there."""
        value = self.take(key)
        for member in kind:
            if member.value == value:
                return member
        raise self._wrong(key, "one of " + ", ".join(str(member.value) for member in kind))

    def section(self, key: str) -> Section:
        """Return the mapping at `key`."""
        return Section(self.take(key), name=f"{self.name}: {key}")

    def sections(self, key: str) -> tuple[Section, ...]:
        """Return the list of mappings at `key`."""
        items = self._list(key, None, self._wrong(key, "a list of mappings"))
        return tuple(
            Section(item, name=f"{self.name}: {key}[{index}]")
            for index, item in enumerate(items)
        )

    def close(self) -> None:
        """Refuse what was not read.

        Raises
        ------
        BundleError
            If a key is left; the message names it.
        """
        if self._left:
            names = ", ".join(repr(key) for key in sorted(self._left))
            raise BundleError(f"{self.name} has keys that are not known: {names}")

    def _took_null(self, key: str) -> bool:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return True
        return False

    def _list(self, key: str, count: int | None, wrong: BundleError) -> list[object]:
        value = self.take(key)
        if not isinstance(value, list) or (count is not None and len(value) != count):
            raise wrong
        return value

    def _wrong(self, key: str, expected: str) -> BundleError:
        return BundleError(f"{self.name}: {key!r} must be {expected}")


def _as_number(value: object, *, wrong: BundleError) -> float:
    # bool is an int in Python, and never a number in a declaration.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong
    if not math.isfinite(value):
        raise wrong
    return float(value)


def _as_integer(value: object, *, wrong: BundleError) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong
    return value


def write_json(path: Path, value: Mapping[str, Json]) -> None:
    """Write `value` as indented JSON, the same bytes for the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def write_yaml(path: Path, value: Mapping[str, Json]) -> None:
    """Write `value` as block YAML in its own order, the same bytes for the same value."""
    text = yaml.safe_dump(
        dict(value), sort_keys=False, allow_unicode=True, default_flow_style=False, width=88
    )
    path.write_text(text, encoding="utf-8", newline="\n")
