"""The setup of an installation: the wizard, services, logins and the doctor."""
