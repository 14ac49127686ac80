"""Queries: plain functions over a transaction. Rows go in and out as frozen values; nothing is decided here."""
