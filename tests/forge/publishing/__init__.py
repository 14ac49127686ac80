"""Tests of what becomes of agents' commits at a forge."""
