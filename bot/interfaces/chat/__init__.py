"""The handling of messages and reactions from chat."""
