"""The interfaces to Muster: each turns its own kind of request into a run of a command."""
