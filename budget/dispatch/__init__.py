"""Whose turn it is: which task is given to which agent. Pure."""
