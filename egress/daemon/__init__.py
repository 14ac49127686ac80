"""The egress as a process: its service, its control socket, and the socket's clients."""
