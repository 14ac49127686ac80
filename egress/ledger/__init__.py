"""The ledger: what was used, by whom, durable before anybody acts on it. An SQLite file of this host's egress alone.

rows      what is written: reservations, settlements, denials
intents   what is under way, in a file beside it
feed      the entries of a group as one statement
schema    the tables, and opening the file
sums      what was used since when, from hourly sums and the rows that are not in them yet
writer    the one thread that writes, in groups
reading   pages for whoever copies the ledger, over a connection that only reads
opening   what is found when an egress starts
book      all of it together, for the event loop
"""

from egress.ledger.service import UsageLedger

__all__ = ["UsageLedger"]
