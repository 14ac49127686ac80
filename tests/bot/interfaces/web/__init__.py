"""Tests of bot/interfaces/web."""
