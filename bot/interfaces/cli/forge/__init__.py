"""Commands about the forge that need no running Muster."""
