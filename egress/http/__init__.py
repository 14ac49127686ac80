"""Agents' HTTP requests: listeners, the proxy, and the metered exchange with a provider."""
