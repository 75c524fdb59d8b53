"""From episode to champion: plan, decision, run, gates, approval, promotion."""
