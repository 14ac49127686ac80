"""The ledger: what was used, by whom, durable before anybody acts on it. An SQLite file of this host's egress alone.

One thread writes it, in groups (`writer_thread`); what is under way is in a file beside it (`reservation_log`);
whoever copies it reads pages over a connection of its own (`page_reader`). `service` is all of it together, for the
event loop.
"""
