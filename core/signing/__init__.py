"""The key of an installation, and what it signed."""
