"""What a connector is and what passes through it: messages, capabilities, slash commands."""
