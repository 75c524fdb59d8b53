"""The ledger: what happened, in an order and in words that nobody can change unseen.

`record` writes it, `verification` says whether it stands, `checkpointing` signs it,
`append_only` guards its tables, and `exports` hands it to others.
"""

from registry.ledger.fault import LedgerFault
from registry.ledger.record import (
    GENESIS,
    AppendOnly,
    BatchSealed,
    Entry,
    Kept,
    LedgerEntry,
    LedgerHead,
    Sealed,
    append,
    chain,
    entries,
    next_batch,
    row_digest,
    row_name,
    sealed_tables,
    wait_turn,
)
from registry.ledger.verification import SetBack, Verification, verify
from registry.ledger.vouching import newest_time_since, vouching_entry

__all__ = [
    "GENESIS",
    "AppendOnly",
    "BatchSealed",
    "Entry",
    "Kept",
    "LedgerEntry",
    "LedgerFault",
    "LedgerHead",
    "Sealed",
    "SetBack",
    "Verification",
    "append",
    "chain",
    "entries",
    "newest_time_since",
    "next_batch",
    "row_digest",
    "row_name",
    "sealed_tables",
    "verify",
    "vouching_entry",
    "wait_turn",
]
