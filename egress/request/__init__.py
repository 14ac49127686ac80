"""An agent's request on its way: its head, its body while it arrives, and content encodings."""
