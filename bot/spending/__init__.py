"""Limits: what holds, what is used and what was enforced, as one value. Windows of accounts are in pacing/."""
