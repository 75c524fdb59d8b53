"""Exports: the ledger as lines of JSON, for those who verify it and for other systems."""
