"""Arrivals: what each source ordinarily sends, and when too few or too many came."""
