"""Limits set by command, what was spent, and cutting agents off. Windows of accounts are in pacing/."""
