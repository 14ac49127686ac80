"""Journals of agents: reading them, and showing their content in chat."""
