"""What agents changed in their workspaces, for the people who review it."""
