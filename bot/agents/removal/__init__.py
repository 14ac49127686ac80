"""Removal of agents that nobody needs any more, with their folders and clones."""
