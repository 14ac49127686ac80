"""A table and a text pane that draw only the lines in view, and take every text as text."""
