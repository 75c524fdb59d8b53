"""What a verification finds first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFault:
    """A place where the ledger disagrees with itself, its tables, or a checkpoint."""

    #: entry that the fault concerns
    sequence: int
    #: what is wrong, in a sentence
    problem: str
