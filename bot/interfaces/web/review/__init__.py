"""Comments on lines of what an agent changed: collected in the browser's session, and sent as one message."""
