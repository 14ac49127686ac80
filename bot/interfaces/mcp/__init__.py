"""Muster's commands as tools for agents."""
