"""Pushes to browsers that are not open: that something waits, and nothing else."""
