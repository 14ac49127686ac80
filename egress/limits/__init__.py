"""Limits enforced: admission, reservations, counters, the blocklist. The decisions are in budget/limits/."""
