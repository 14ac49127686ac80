"""What an agent that works on an issue can call: its only way to the forge, of which it sees numbers alone."""
