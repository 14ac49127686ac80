"""The orchestrator's side of the egress: keeping it running, telling it what holds, importing what it wrote down."""
