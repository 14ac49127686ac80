"""The fork that Muster's account has of a repository, under the repository's own name."""

from __future__ import annotations

from forge.model.errors import ForgeAway, ForgeMissing
from forge.model.forge_client import ForgeClient
from forge.model.references import RepositoryName
from forge.publishing.errors import PublishingError


class ForkUnusable(PublishingError):
    """The account's repository of this name cannot take branches for the other one."""

    code = "publishing.no_fork"


async def find(client: ForgeClient, name: RepositoryName, account: str) -> RepositoryName | None:
    """Return the account's fork of a repository; None if there is none, and its name is free.

    Raises:
        ForkUnusable: the account has something else under the name, or may not push to the fork.
        ForgeError: the forge does not respond, or says no.
    """
    try:
        found = await client.repository(RepositoryName(account, name.name))
    except ForgeMissing:
        return None
    if found.is_fork_of is None or not found.is_fork_of.is_same(name):
        raise ForkUnusable(
            f"{found.name} is no fork of {name}, so nothing was pushed there. Rename {found.name} at the forge, or set "
            "`forge: pushes: fork: false` in muster.yaml."
        )
    if not found.may_push:
        raise ForkUnusable(f"The account may not push to its fork {found.name}. Give the token write access to it.")
    return found.name


async def ensure(client: ForgeClient, name: RepositoryName, account: str) -> RepositoryName:
    """Return the account's fork of a repository, which is made if there is none.

    Raises:
        ForgeAway: the forge is still making it (GitHub: "Forking a repository happens asynchronously").
        ForkUnusable: there is none that can be used.
        ForgeError: the forge does not respond, or says no.
    """
    if (found := await find(client, name, account)) is not None:
        return found
    await client.fork(name)
    if (made := await find(client, name, account)) is not None:
        return made
    raise ForgeAway(f"The forge makes the fork of {name}.")
