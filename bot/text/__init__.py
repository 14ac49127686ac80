"""Reading and formatting of times, amounts and Markdown."""
