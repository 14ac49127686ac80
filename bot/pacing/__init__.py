"""Windows and their even-spread lines: loading them, keeping them in the register, and showing them to operators."""
