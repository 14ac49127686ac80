"""Hosts of agents: starting, locking, liveness, restart policy and sweeping of processes."""
