"""The `muster` command and the terminal programs that it starts."""
