"""Queries about issues of a forge that become pull requests."""
