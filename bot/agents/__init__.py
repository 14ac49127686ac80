"""Agents from launch to stop: what is wanted of them, a supervisor each, their status. What they say: journal/."""
