"""What the record says of a moment that has passed, and of one version, patient or study.

Nothing here is computed anew: rows whose history is kept (champions, plans, restrictions, results)
are read as they were, and what a row does not keep (an episode's cause then) is read from the
ledger's entries of up to that moment.
"""
