"""Messages in chat: texts of agents and of Muster, their threads, rooms and attachments."""
