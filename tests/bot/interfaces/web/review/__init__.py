"""Comments on lines of what agents changed."""
