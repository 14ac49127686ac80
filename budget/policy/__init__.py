"""Choices of account and model, and when an agent runs away. Pure."""
