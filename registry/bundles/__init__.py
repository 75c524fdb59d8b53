"""The artifact format: what a version of a model is made of."""
