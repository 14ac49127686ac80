"""Registers as muster.yaml names them: an address, and where the password for it is."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from bot.config.instance_lock import only_one
from bot.config.loader import load
from bot.text.errors import UserError
from core.secret_references import Reference
from database.engine import database_copy
from database.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bot.config.loader import Settings
    from bot.config.paths import Paths


async def open_register(settings: Settings, environ: Mapping[str, str], *, home: str | None = None) -> Store:
    """Open the register of this installation, whose agents are marked with `home`.

    Raises:
        RegisterError: it cannot be used.
    """
    return await Store.open(settings.register_url, password=password(settings.register_password, environ), home=home)


def is_shared(settings: Settings) -> bool:
    """Return whether the register is on a server, where a second orchestrator may stand by."""
    return not settings.register_url.startswith("sqlite:")


def password(reference: Reference | None, environ: Mapping[str, str]) -> Callable[[], str] | None:
    """Return what fetches a password whenever it is wanted, so that one that was changed is noticed."""
    return None if reference is None else partial(reference.resolve, environ)


async def copy(
    paths: Paths,
    environ: Mapping[str, str],
    urls: tuple[str, str],
    references: tuple[str | None, str | None],
    progress: Callable[[str, int, int], None],
) -> list[database_copy.CopiedTable]:
    """Copy the register at the first of `urls` into the second. No orchestrator may run on either.

    Args:
        paths: the installation, whose own register may be one of the two.
        environ: where references to secrets are looked up.
        urls: where the registers are.
        references: where the passwords are. Absent: for this installation's own, as in muster.yaml.
        progress: told of each table how many of its rows exist already, and of how many.

    Raises:
        UserError: Muster runs here on one of them, or a reference is none.
        RegisterError: one of them cannot be used or is in use, or the target is not empty.
    """
    settings = load(paths)
    source, target = (
        database_copy.RegisterPlace(url=url, password=password(_reference(url, given, settings), environ))
        for url, given in zip(urls, references, strict=True)
    )
    with contextlib.ExitStack() as held:
        if settings.register_url in urls and paths.lock.parent.exists():
            held.enter_context(only_one(paths.lock))
        return await database_copy.copy(source, target, progress=progress)


def _reference(url: str, given: str | None, settings: Settings) -> Reference | None:
    if given is None:
        return settings.register_password if url == settings.register_url else None
    try:
        return Reference.parse(given)
    except ValueError as error:
        raise UserError(f"Password reference: {error}", code="config.invalid") from None
