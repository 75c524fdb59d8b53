"""The portfolio's members: maps of scans to features whose means are compared."""
