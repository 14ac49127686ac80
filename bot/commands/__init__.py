"""The command table: every command is declared once, and every door is made from that declaration."""
