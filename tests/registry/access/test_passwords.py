from __future__ import annotations

import statistics
import time

import pytest
from argon2 import extract_parameters

from registry.access import passwords
from registry.errors import BadInputError

PASSWORD = "seven blue kettles sing"


def test_a_password_is_kept_by_argon2id_with_a_salt_of_its_own() -> None:
    first, second = passwords.hashed(PASSWORD), passwords.hashed(PASSWORD)
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert PASSWORD not in first
    assert passwords.matches(first, PASSWORD)
    assert not passwords.matches(first, PASSWORD.upper())


def test_one_password_typed_in_two_forms_of_unicode_is_one() -> None:
    stored = passwords.hashed("an épée and a châlet")
    assert passwords.matches(stored, "an e\u0301pe\u0301e and a cha\u0302let")


def test_nobody_s_password_matches_none_and_costs_what_anybody_s_costs() -> None:
    assert not passwords.matches(None, PASSWORD)
    assert not passwords.matches("no hash at all", PASSWORD)
    stored = passwords.hashed(PASSWORD)
    assert extract_parameters(passwords._NOBODY) == extract_parameters(stored)
    seconds: dict[str | None, list[float]] = {None: [], stored: []}
    for _ in range(5):
        for known, measured in seconds.items():
            started = time.thread_time()
            passwords.matches(known, "a wrong one, certainly")
            measured.append(time.thread_time() - started)
    without, wrong = (statistics.median(measured) for measured in seconds.values())
    assert 0.5 < without / wrong < 2


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("short", "15 to 256 characters"),
        ("x" * 257, "15 to 256 characters"),
        ("abababababababab", "different characters"),
        ("the mei-tanaka password", "owner's name"),
    ],
)
def test_a_password_that_is_easy_to_guess_is_refused(password: str, problem: str) -> None:
    with pytest.raises(BadInputError, match=problem) as refused:
        passwords.require_fit(password, name="Mei-Tanaka")
    assert password not in str(refused.value)
