"""How a candidate is made: one file per strategy, run by the training subprocess."""
