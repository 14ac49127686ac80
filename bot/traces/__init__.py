"""Traces for an OpenTelemetry collector: the path of a message from chat to the model and back, by the register."""
