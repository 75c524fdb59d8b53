"""Forms of our own pages: read in bounded memory, and only from our own pages."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs

from fastapi import Request

from api.http.access import caller_of, require_own_origin
from api.http.multipart import media_type
from registry.errors import BadInputError, NotPermittedError

LARGEST_FORM = 16 << 10
FORM = "application/x-www-form-urlencoded"
#: The field that carries the caller's key.
KEY_FIELD = "form_key"


async def read_body(request: Request, *, largest: int) -> bytes:
    """Return a body, read no further than it may be long.

    Raises
    ------
    BadInputError
        If it is longer.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > largest:
            raise BadInputError(f"a request here has at most {largest >> 10} KiB")
        pieces.append(piece)
    return b"".join(pieces)


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that one of our pages sent.

    Raises
    ------
    BadInputError
        If it is no form, or a field comes twice.
    NotPermittedError
        If another site's page sent it.
    """
    require_own_origin(request)
    kind = media_type(request.headers.get("content-type", "")).name
    if kind != FORM:
        raise BadInputError("a form is expected here: use the page")
    body = await read_body(request, largest=LARGEST_FORM)
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50)
    except ValueError as error:
        raise BadInputError("the form cannot be read: use the page") from error
    if any(len(values) > 1 for values in fields.values()):
        raise BadInputError("the form names a field twice: use the page")
    return {name: values[0] for name, values in fields.items()}


async def read_own_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that was made for this very caller.

    Raises
    ------
    NotPermittedError
        If it lacks the key that this caller's pages carry.
    """
    fields = await read_form(request)
    caller = caller_of(request)
    if caller is None or not hmac.compare_digest(
        caller.form_key.encode(), fields.get(KEY_FIELD, "").encode()
    ):
        raise NotPermittedError("this form is not of your session: open its page again")
    return fields
