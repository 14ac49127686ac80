"""An agent's conversation in its runtime's own terminal program, for a person at a terminal."""
