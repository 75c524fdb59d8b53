"""From verdicts that persist to what a person is told: where, since when, why."""
