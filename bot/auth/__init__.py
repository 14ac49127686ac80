"""Permissions: what a person may do, and what an agent may do with commands."""
