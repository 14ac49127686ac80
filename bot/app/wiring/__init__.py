"""The parts of an orchestrator: how each kind is made, and in which order all are started and stopped."""
