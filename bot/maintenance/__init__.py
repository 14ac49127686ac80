"""Keeping an installation: backups, restores, updates, and what is thrown away."""
