"""`muster dashboard`: the fleet in a terminal. It shows read models, and acts through commands alone."""
