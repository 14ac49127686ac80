"""Maintenance of an installation: backups, restores, updates and retention."""
