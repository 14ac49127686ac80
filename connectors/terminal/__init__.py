"""A chat room in a terminal."""
