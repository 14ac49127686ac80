"""The web dashboard: pages, forms and a stream of changes, over HTTP on loopback."""
