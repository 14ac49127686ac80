"""Updates to another version, and the step from one to the other."""
