"""The running orchestrator: its parts put together, started and stopped in order."""
