"""The reason that a person gives for an act, as the ledger keeps it."""

from __future__ import annotations

import unicodedata

from registry.errors import BadInputError

LONGEST_REASON = 2000
#: Control codes, and what stands for bytes that are not UTF-8.
_NO_TEXT = {"Cc", "Cs"}


def stated(reason: str) -> str:
    """Return a reason as it is kept: one line, which any terminal can show.

    Raises
    ------
    BadInputError
        If nothing is said, too much, or what is no text.
    """
    line = " ".join(reason.split())
    if not line:
        raise BadInputError("say why: the ledger keeps it")
    if len(line) > LONGEST_REASON:
        raise BadInputError(
            f"{len(line):,} characters are no reason but a document: say it in at most "
            f"{LONGEST_REASON:,}, and name where the rest is"
        )
    if any(unicodedata.category(character) in _NO_TEXT for character in line):
        raise BadInputError(
            "it holds characters that are no text, such as a terminal's control codes: write it "
            "anew"
        )
    return line
