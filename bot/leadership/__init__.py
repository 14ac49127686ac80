"""Which of several orchestrators runs the fleet: a lock on one machine, a lease across machines, standbys."""
