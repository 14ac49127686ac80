"""The command table: every command is declared once, and every interface is derived from its declaration."""
