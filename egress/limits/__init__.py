"""Enforcement of limits: admission, reservations, counters, the blocklist. Decisions are in budget/limits/."""
