"""Who read: never by name."""

from __future__ import annotations

import re
import unicodedata

from monitor.intake.pseudonyms import Naming, token

#: What cannot be a person's name as people write it: no blank, no comma, no caret.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def reader_pseudonym(name: str, *, key: Naming) -> str:
    """Return a stable stand-in for a reader's name, "" for none: `reader-1f0a92c4`."""
    plain = " ".join(unicodedata.normalize("NFC", name).replace("^", " ").split()).casefold()
    return token(key, "reader", plain) if plain else ""


def reader_code(text: str, *, key: Naming) -> str:
    """Return a reader as a table states him: a code as it is, anything else as a stand-in."""
    return text if _CODE.fullmatch(text) else reader_pseudonym(text, key=key)
