"""Documents and commands over the gateway's socket, for programs that stay open. `bot.api_client` asks once."""
