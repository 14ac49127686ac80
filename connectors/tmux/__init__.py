"""The fleet's room in a pane of tmux."""
