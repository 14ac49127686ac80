"""Queries about agents and their messages."""
