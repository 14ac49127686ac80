"""Discord: one server's channel, its threads, and direct messages."""
