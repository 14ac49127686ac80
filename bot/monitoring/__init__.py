"""Health, the state of the fleet as the watchdog sees it, and alerts."""
