"""Messages to agents: from people, from commands and from other agents, and their delivery."""
