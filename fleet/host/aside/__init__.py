"""Questions on the side: asked of a fork of the agent's conversation, which may only read."""
