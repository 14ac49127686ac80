"""Ways in: each turns its own kind of request into a run of a command from the table."""
