"""Paging: newest first, each page named by where it starts."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Query

from api.http.numbers import LARGEST_NUMBER

LARGEST_PAGE = 500

Limit: TypeAlias = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="At most so many.")]
Before: TypeAlias = Annotated[
    int | None,
    Query(ge=1, le=LARGEST_NUMBER, description="Only what stands before this number."),
]
