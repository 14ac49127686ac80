"""Access to the registers that muster.yaml configures by URL and password reference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from bot.config.instance_lock import only_one
from bot.config.loader import Settings, load
from bot.config.paths import Paths
from bot.text.errors import UserError
from core.secret_references import Reference
from database.engine import database_copy
from database.engine.store import Store


async def open_register(settings: Settings, environ: Mapping[str, str], *, home: str | None = None) -> Store:
    """Open the register of this installation, which marks its agents with `home`.

    Raises:
        RegisterError: the register cannot be used.
    """
    return await Store.open(settings.register_url, password=password(settings.register_password, environ), home=home)


def is_shared(settings: Settings) -> bool:
    """Return whether the register is on a server, so that a standby orchestrator can use it too."""
    return not settings.register_url.startswith("sqlite:")


def password(reference: Reference | None, environ: Mapping[str, str]) -> Callable[[], str] | None:
    """Return a function that resolves the password at each call, so that a changed password takes effect."""
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
        paths: the installation; its own register may be one of the two.
        environ: the environment for references to secrets.
        urls: the source and the target.
        references: the password references. The default for this installation's own register is in muster.yaml.
        progress: called with a table, the number of its rows already copied, and their total.

    Raises:
        UserError: Muster runs here on one of the registers, or a password reference is not valid.
        RegisterError: a register cannot be used or is in use, or the target is not empty.
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
