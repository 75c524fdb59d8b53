"""The command line: `driftward`."""

from api.cli.main import main

__all__ = ["main"]
