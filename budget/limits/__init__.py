"""Limits on tokens and money: which govern a request, and whether it may leave. Pure."""
