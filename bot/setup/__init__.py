"""Setting an installation up: the wizard, services, logins, and the doctor."""
