"""Queries about usage, limits and windows."""
