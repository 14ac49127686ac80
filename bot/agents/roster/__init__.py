"""The fleet's roster as operators see and edit it. The file itself is read and written by fleet/roster/."""
