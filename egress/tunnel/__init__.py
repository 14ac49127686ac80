"""CONNECT: the host allowlist, byte relays, and interception of metered hosts."""
