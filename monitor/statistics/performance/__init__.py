"""How well a champion reads: with labels, and without them."""
