"""The evidence pack of a change: what a regulator reads, as HTML and PDF, from the record alone."""
