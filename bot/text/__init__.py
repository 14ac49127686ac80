"""How times, amounts and Markdown are written."""
