"""What a change plan would have done with a monitor's past: a replay that changes nothing."""
