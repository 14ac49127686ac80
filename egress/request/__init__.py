"""An agent's request: its head, its body while it arrives, and content encodings."""
