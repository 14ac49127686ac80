"""The person who runs this installation."""

from __future__ import annotations

import getpass


def owner_identity() -> str:
    """Return the owner's identity in the terminal and on the gateway: ``terminal:ana``."""
    return f"terminal:{getpass.getuser()}"
