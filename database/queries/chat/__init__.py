"""Queries about people, threads and what is asked of people."""
