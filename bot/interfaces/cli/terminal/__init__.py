"""Programs of the shell that take the terminal: a chat, a look at an agent, and an agent that is handed over."""
