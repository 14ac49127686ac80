"""What happens to an agent, read from its journal and shown in chat."""
