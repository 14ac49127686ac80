"""Tests of projects and their topics."""
