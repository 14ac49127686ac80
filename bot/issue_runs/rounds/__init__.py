"""The rounds of issue runs: from a queued row to a pull request that waits for people."""
