"""Talking to an agent host: its specification and its control socket."""
