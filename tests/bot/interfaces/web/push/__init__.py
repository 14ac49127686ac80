"""Pushes to browsers that are not open."""
