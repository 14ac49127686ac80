"""From what the forge shows to rows: pick-ups, wakes and notices, the looks at the forge, and its health."""
