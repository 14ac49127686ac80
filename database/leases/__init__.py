"""Leases and the fencing of writers."""
