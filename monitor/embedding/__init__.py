"""Reading scans: what waits, by which versions it is read, and the encoders that do it."""
