"""Silence: missing and surplus scans by source, from the first look to the alarm's end."""
