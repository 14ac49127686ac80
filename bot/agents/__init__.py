"""Agents from launch to stop: their desired state, a supervisor each, and their status. journal/ has their output."""
