"""The orchestrator: one command table, its interfaces, and the conversations between operators and agents."""
