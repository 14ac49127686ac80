"""What is said in chat: the words of agents and of Muster, their threads, rooms and attachments."""
