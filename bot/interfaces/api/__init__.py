"""The HTTP API: the gateway, its event stream, its client, and OpenAPI."""
