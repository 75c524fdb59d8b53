"""Following: every scan as it comes, against each deciding reference, within a budget."""
