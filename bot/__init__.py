"""The orchestrator: one command table, its doors, and the conversations between operators and agents."""
