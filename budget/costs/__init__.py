"""The cost of work: prices, projections, and lessons from history."""
