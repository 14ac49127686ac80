"""Waiting in a shell for what an agent does: `run`, and the option `--wait`."""
