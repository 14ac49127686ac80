"""The egress plane: the only way out of a sandbox, and the only holder of real credentials.

One process per host, which outlives the orchestrator. A request comes in over a listener that *is* its agent's
identity, is admitted by the gate against every limit that holds, leaves with the account's credential, is metered from
the provider's own response, and is in the ledger before its last event reaches the agent.

    apis        which calls of which provider there are
    settings    what the egress is told: accounts, limits, agents (pydantic, the wire)
    asking      what a request wants, and what is changed of it on its way (pure)
    usage/      what a response used, read while it streams (pure)
    refusals    errors in each provider's own shape (pure)
    gate        reserve, meter, settle, cut: who may go on (memory, atomic), backed by
    ledger      the durable record: one writer thread over SQLite, group commit
    tallies, standing, lease    what is used and held of each limit, who draws on it, and an admitted request's part
    charging    what a request costs, by how it ended (pure)
    denials, enforcement    who is cut off, the emergency stop; freezing and killing from outside
    overview    what stands, for whoever asks
    proxy       who asks, what for, and with whose credential it leaves; puts these together
    passage     one admitted request on its way: metered, settled exactly once, cut
    listeners   an agent's identity: a socket, or a port with a secret path
    targets, headers, attribution   what a request says, read strictly (targets and headers: pure)
    bodies, answers, upstream, credentials      its body, what is written back, the way to the provider, its keys
    routes, connects, hello     where a CONNECT is to lead, and whether that is what is then spoken of (pure)
    tunnel, flow    CONNECT to a listed host, by resolving (one look-up, checked addresses), and its bytes
    interception    CONNECT to a metered host, which ends in the proxy; authority makes the certificates
    remarks     what the audit keeps of attempts and of tunnels' bytes, bounded
    control, client     the egress's own socket, and who speaks to it
    server      all of it together, started and ended in order; process, the process around it
    places      where it keeps what it knows, and where it is reached
"""
