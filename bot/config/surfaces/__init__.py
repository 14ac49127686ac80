"""Blocks of muster.yaml about surfaces besides chat."""
