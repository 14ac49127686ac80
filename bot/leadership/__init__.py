"""Choosing the orchestrator that leads the fleet: a lock on one machine, a lease across machines, and standbys."""
