"""Slash commands, buttons and menus on Discord."""
