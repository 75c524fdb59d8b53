"""The system of record: models, versions, bundles, lineage, the ledger and the job table."""
