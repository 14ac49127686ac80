"""Scheduled jobs, the watchdog, and the dispatch of tasks."""
