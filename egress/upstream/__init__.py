"""Connections to providers: the pool, credentials and responses."""
