"""The egress plane: the only way out of a sandbox, and the only holder of real credentials.

One process per host, which outlives the orchestrator. A request comes in over a listener that *is* its agent's
identity, is admitted by the gate against every limit that holds, leaves with the account's credential, is metered from
the provider's own response, and is in the ledger before its last event reaches the agent.

    http/       an agent's request: listeners, what it may say, the proxy, the metered exchange, errors
    limits/     who may go on: reserve, settle, cut; the blocklist; freezing and killing from outside
    usage/      what a response used, read while it streams (pure)
    ledger/     the durable record: one writer thread over SQLite, group commit
    upstream/   the way to providers: connections, credentials, request bodies, responses
    tunnel/     CONNECT to a listed host, and to a metered one, which ends in the proxy
    daemon/     all of it as a process, started and ended in order, with its control socket
"""
