"""Numbers in paths, as the database counts."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path

#: The largest that a column of 64 bits holds; what is larger is refused, not looked up.
LARGEST_NUMBER = 2**63 - 1

Number: TypeAlias = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
