"""Pages and dialogs of the dashboard."""
