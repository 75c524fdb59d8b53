"""Exact two-sample tests by permutation: oracles of the portfolio, and options beside it."""
