"""Reports that are posted to chat on a schedule, and alerts when use passes shares of a budget."""
