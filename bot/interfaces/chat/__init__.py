"""Messages and reactions from chat, and what is done with each."""
