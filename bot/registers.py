"""Registers as muster.yaml names them: an address, and where the password for it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from register.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bot.config import Settings
    from register.references import Reference


async def open_register(settings: Settings, environ: Mapping[str, str]) -> Store:
    """Open the register of this installation.

    Raises:
        RegisterError: it cannot be used.
    """
    return await Store.open(settings.register_url, password=password(settings.register_password, environ))


def password(reference: Reference | None, environ: Mapping[str, str]) -> Callable[[], str] | None:
    """What fetches a password whenever it is wanted, so that one that was changed is noticed."""
    return None if reference is None else partial(reference.resolve, environ)
