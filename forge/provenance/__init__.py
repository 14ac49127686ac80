"""Records of where a comment, a pull request or a commit came from, and their proof."""
