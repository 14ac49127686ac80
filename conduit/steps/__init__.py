"""The steps of setting a homeserver up, one module each."""
