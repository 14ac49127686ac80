"""The order of tasks, and their assignment to agents. Pure."""
