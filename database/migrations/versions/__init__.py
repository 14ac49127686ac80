"""The steps, a file each, in the order of their numbers."""
