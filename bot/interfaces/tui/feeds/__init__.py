"""Where documents come from: the gateway, or files and agent hosts while Muster is down. And where orders go."""
