"""Permissions: what a person may do, and which commands an agent may run."""
