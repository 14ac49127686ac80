"""The documents that dashboards show, built while somebody looks and sent when they change."""
