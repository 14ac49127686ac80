"""Pure decisions about spending: what counts, which limits apply, what may begin. No I/O; the clock is an argument."""
