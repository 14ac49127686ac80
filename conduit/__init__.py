"""A homeserver of one's own: files to run one with, and what sets a fleet up on it (docs/how-to/homeserver.md)."""
