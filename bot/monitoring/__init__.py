"""Health reports, the watchdog's view of the fleet, and alerts."""
