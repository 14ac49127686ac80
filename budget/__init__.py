"""Pure decisions over spending: what counts, what holds, what may be admitted. No I/O; the clock is an argument."""
