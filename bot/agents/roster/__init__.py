"""The fleet's roster as operators see and edit it. fleet/roster/ reads and writes the file itself."""
