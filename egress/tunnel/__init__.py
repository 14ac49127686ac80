"""CONNECT: the host allowlist, relays, and interception of metered hosts."""
