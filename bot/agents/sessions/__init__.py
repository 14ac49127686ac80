"""Conversations that runtimes keep on this machine, which an agent can go on in."""
