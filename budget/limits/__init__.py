"""Limits on tokens and money: which limits govern a request, and whether it may be sent. Pure."""
