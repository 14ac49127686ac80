"""Runs: one prompt for one agent, from the request to the outcome, with nobody there to ask."""
