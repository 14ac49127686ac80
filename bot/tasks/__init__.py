"""Tasks: submission, assignment, state, settlement and threads. `budget/dispatch/` decides which task is next."""
