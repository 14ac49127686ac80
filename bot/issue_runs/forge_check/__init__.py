"""The check of a configured forge: what was tried, what was found, and what to do. It changes nothing."""
