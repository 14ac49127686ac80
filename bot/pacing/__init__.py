"""Windows and their even-spread lines: what is known of them, gathered; kept in the register; said to operators."""
