"""The orchestrator's client of the egress: it runs the process, pushes settings and imports the ledger."""
