"""The ground floor: files, sockets, secrets, durations, errors and logs, used by every other package."""
