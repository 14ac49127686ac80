"""From a roster entry to the specification of an agent host."""
