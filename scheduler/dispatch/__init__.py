"""Giving tasks to agents: reading the queue, acting on what budget/dispatch/ decides."""
