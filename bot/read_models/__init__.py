"""What Muster shows, as frozen values: chat, the shell, the gateway and dashboards render the same ones."""
