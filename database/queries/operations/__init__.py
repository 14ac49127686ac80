"""Queries about commands, reports, backups and findings."""
