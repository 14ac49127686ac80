"""Agents: who they are, the processes that run them, and how we know that they live."""
