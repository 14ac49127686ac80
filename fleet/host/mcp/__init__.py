"""Tools for the runtime over the Model Context Protocol, as the agent host serves them."""
