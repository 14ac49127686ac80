"""The Agent Client Protocol, as the agent host speaks it with a runtime."""
