"""Limits set by command, queries of use, and cutoffs of agents. Windows of accounts are in pacing/."""
