"""The simulated provider with odd deliveries, odd bills and failures by chance, which clients must take."""
