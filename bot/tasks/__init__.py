"""Tasks: submission, assignment, state, settlement, threads. Whose turn it is, is decided in budget/dispatch/."""
