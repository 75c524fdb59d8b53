"""From a stored instance to an encoder's input, and what pixels look like."""
