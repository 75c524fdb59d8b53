"""A stream of scans: bets, the alarm, its onset, and when it is over."""
