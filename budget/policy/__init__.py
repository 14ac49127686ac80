"""The choice of account and model. Pure."""
