"""Rules that answer a runtime's permission requests. The agent host evaluates them, and the agent never does."""
