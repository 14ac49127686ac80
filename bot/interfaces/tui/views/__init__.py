"""What the dashboard shows of each read model: rows of tables and lines of text. Pure."""
