"""Reports: what is posted to chat at times, and when a budget's shares are passed."""
