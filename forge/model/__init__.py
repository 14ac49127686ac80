"""What a forge tells and takes, as values that are the same for each forge."""
