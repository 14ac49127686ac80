"""The egress: the only network path out of a sandbox, and the only holder of real credentials.

One process per host, which outlives the orchestrator. A request arrives on a listener that identifies its agent.
Admission control checks it against every limit that applies. It is forwarded with the account's credential and metered
from the provider's own response. Its ledger entry is durable before the last event of the response reaches the agent.

    http/       agent requests: listeners, header and body policy, the proxy, the metered exchange, errors
    request/    the request model, buffered bodies, content encodings
    limits/     admission control: reserve, settle, cut; the blocklist; freezing and killing from outside
    usage/      what a response used, parsed while it streams (pure)
    ledger/     the durable record: one writer thread over SQLite, group commit
    upstream/   connections to providers, credentials, responses
    tunnel/     CONNECT to allowed hosts, and to metered hosts, which the proxy intercepts
    daemon/     the egress as a process: ordered startup and shutdown, the control socket
"""
