"""Tests of bot/web_access."""
