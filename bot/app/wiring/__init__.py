"""The creation of an orchestrator's parts, and the order in which they start and stop."""
