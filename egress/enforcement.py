"""Freezing and killing an agent from outside, whether or not it cooperates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from egress.settings import Registration


async def enforce(registration: Registration, action: str, cause: str) -> str:
    """Stop an agent; how that went."""
    raise NotImplementedError
