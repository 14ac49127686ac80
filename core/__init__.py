"""Files, sockets, secrets, durations, errors and logs, for use by every other package."""
