"""What work costs: prices, projections and what history taught."""
