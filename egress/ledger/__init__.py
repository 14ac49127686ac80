"""The ledger: what was used, by which agent, durable before it takes effect.

It is an SQLite file that only this host's egress writes. One thread writes it, in groups (`writer_thread`). Running
requests are in a file next to it (`reservation_log`). Copies read pages over a separate connection (`page_reader`).
`service` combines all of this for the event loop.
"""
