"""The reason that a request gives, by the one rule for reasons."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from registry.errors import BadInputError
from registry.reasons import LONGEST_REASON, stated


def _stated(reason: str) -> str:
    try:
        return stated(reason)
    except BadInputError as error:
        raise PydanticCustomError("reason", "{problem}", {"problem": str(error)}) from None


StatedReason: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_REASON, description="Why, for the ledger."),
    AfterValidator(_stated),
]
