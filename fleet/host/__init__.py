"""The agent host: the one small process per agent that owns the runtime's stdio, its journal and its control socket."""
