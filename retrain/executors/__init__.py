"""Where a training runs: beside the worker, or on a Ray cluster."""
