"""The orchestrator's side of the egress: keeping it running, telling it what holds, and importing what it wrote down."""
