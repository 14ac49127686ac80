"""What a forge tells and takes, as values that are the same for each forge, and the interface it is reached by."""
