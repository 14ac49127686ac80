"""An agent's journal: its events, and reading it."""
