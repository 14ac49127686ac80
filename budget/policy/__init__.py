"""The choice of account and model, and the detection of runaway agents. Pure."""
