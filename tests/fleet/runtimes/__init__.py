"""Small runtimes that speak the Agent Client Protocol by a script, good and bad ones."""
