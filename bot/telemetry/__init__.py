"""Anonymous telemetry, off unless switched on: what would go, and its sending to a URL of the operator's choice."""
