"""The built-in agent, which speaks the Agent Client Protocol and costs nothing."""
