"""What kind of change stands behind a shift: the pattern that it leaves, and what that means."""
