"""Anonymous telemetry, off by default: a preview of its content, and sending it to a URL that the operator chooses."""
