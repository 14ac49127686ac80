"""The inbox and the outbox: each message in is handled once, each message out is sent once."""
