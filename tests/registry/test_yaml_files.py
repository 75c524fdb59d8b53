from __future__ import annotations

import time
from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from registry.errors import BadInputError
from registry.yaml_files import LARGEST_CHARACTERS, read_specification


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 0


class _Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    since: date | None = None

    first: _Part = _Part()
    parts: list[_Part] = []


def read(text: str) -> _Thing:
    return read_specification(text, _Thing, source="thing.yaml", what="a thing")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
CHAIN = "a: &a0 [1]\n" + "".join(f"b{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 500))
MERGED = "a: &a {x: 1}\n" + "".join(
    f"b{n}: &{'abcdefghij'[n]}\n  <<: [{','.join(['*' + 'abcdefghij'[n - 1]] * 9)}]\n  k{n}: 1\n"
    for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"^thing\.yaml:5: not YAML: more than 50000 values"),
        (MERGED, r"not YAML: more than 50000 values"),
        (CHAIN, r"^thing\.yaml:50: not YAML: more than 50 lists and mappings"),
        ("a: " + "[" * 5000, r"^thing\.yaml:1: not YAML: more than 50 lists and mappings"),
        ("- " * 5000, r"not YAML: more than 50 lists and mappings"),
        ("first: 1\na: &a [*a]", r"^thing\.yaml:2: not YAML: an alias stands inside what it"),
        ("#" * (LARGEST_CHARACTERS + 1), r"not YAML: a specification has at most 262144"),
        ("a: !!timestamp 2026-2-x", r"^thing\.yaml: not YAML: "),
        ("a: " + "9" * 5000, r"^thing\.yaml: not YAML: "),
        ("? [a]\n: 1", r"^thing\.yaml:1: not YAML: found unhashable key"),
    ],
)
def test_a_file_that_would_exhaust_its_reader_is_refused_at_once(
    text: str, message: str
) -> None:
    started = time.process_time()
    with pytest.raises(BadInputError, match=message):
        read(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["10:00", "1:30.5", "-0:20"])
def test_a_time_of_day_is_no_number_in_base_sixty(text: str) -> None:
    with pytest.raises(
        BadInputError, match=r"thing\.yaml:2: first\.size: .*integer"
    ) as refused:
        read(f"first:\n  size: {text}")
    assert "600" not in str(refused.value)
    assert read("first:\n  size: 600").first.size == 600


def test_a_day_that_does_not_exist_is_refused_at_its_key() -> None:
    with pytest.raises(BadInputError, match=r"^thing\.yaml:2: since: .*day value is outside"):
        read("parts: []\nsince: 2026-02-30")


def test_an_alias_that_says_little_is_read() -> None:
    assert read("first: &a {size: 3}\nparts: [*a, *a]").parts == [_Part(size=3)] * 2


def test_a_key_that_stands_twice_is_named_with_its_path() -> None:
    with pytest.raises(BadInputError, match=r"^thing\.yaml:4: parts\.1\.size: stands twice"):
        read("parts:\n  - size: 1\n  - size: 1\n    size: 2")


def test_of_very_many_problems_the_first_are_told_and_the_rest_counted() -> None:
    with pytest.raises(BadInputError) as error:
        read("".join(f"unknown_{n}: 1\n" for n in range(3000)))
    told = str(error.value).split("\n")
    assert told[0] == "thing.yaml:1: unknown_0: is no key that is known here"
    assert told[20:] == ["thing.yaml: 2980 more problems"]


@given(st.text(st.sampled_from("ab*&[]{}:,-?!|>'\"#%@<=\n 0123456789.~"), max_size=60))
def test_whatever_a_file_holds_it_is_read_or_refused(text: str) -> None:
    with suppress(BadInputError):
        assert isinstance(read(text), _Thing)
