"""Open the client of a configured forge."""

from __future__ import annotations

from typing import Literal, TypeAlias

from forge.clients.address import ForgeAddress
from forge.clients.gitea import GiteaClient
from forge.clients.github import GitHubClient
from forge.clients.http_options import HttpOptions
from forge.model.forge_client import ForgeClient

ForgeKind: TypeAlias = Literal["gitea", "github"]


def open_client(
    kind: ForgeKind, address: ForgeAddress, token: str, *, options: HttpOptions | None = None
) -> ForgeClient:
    """Return the client of a forge; nothing is sent yet. Forgejo is of the kind ``gitea``.

    Raises:
        ForgeError: the token cannot be one.
    """
    match kind:
        case "gitea":
            return GiteaClient(address, token, options=options)
        case "github":
            return GitHubClient(address, token, options=options)
