"""The egress as a process: its service, its control socket, and clients of it."""
