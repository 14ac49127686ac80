"""Opening the database, on SQLite or PostgreSQL, and transactions over it."""
