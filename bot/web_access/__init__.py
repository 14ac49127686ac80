"""Who is logged in to the dashboard with which browser: codes, sessions, and the commands about them."""
