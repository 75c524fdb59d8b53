"""JSON from outside, without what Python's reader would let pass."""

from __future__ import annotations

import json
from typing import Any

from registry.errors import LabelError


def read_json(content: bytes, *, file: str) -> Any:
    """Return what a JSON text says.

    Raises
    ------
    LabelError
        If it is none, is nested too deep, or says a key twice; naming the line, never its text.
    """
    try:
        return json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_number
        )
    except UnicodeDecodeError:
        why, line = "it is not UTF-8 text", 0
    except json.JSONDecodeError as error:
        why, line = "something is missing, or too much", error.lineno
    except RecursionError:
        why, line = "it is nested too deep", 0
    except ValueError:
        why, line = "a key stands twice in one object, or a number is none", 0
    place = f":{line}" if line else ""
    raise LabelError(
        f"{file}{place}: not JSON: {why}", place=f"line {line}" if line else ""
    ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(_text: str) -> float:
    raise ValueError("no number")
