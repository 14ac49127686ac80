"""Open the client of a configured forge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from forge.clients import certificates
from forge.clients.address import ForgeAddress
from forge.clients.gitea import GiteaClient
from forge.clients.github import GitHubClient
from forge.clients.http_options import HttpOptions
from forge.model.forge_client import ForgeClient

ForgeKind: TypeAlias = Literal["gitea", "github"]


def open_client(
    kind: ForgeKind,
    address: ForgeAddress,
    token: str,
    *,
    ca_file: Path | None = None,
    options: HttpOptions | None = None,
) -> ForgeClient:
    """Return the client of a forge; nothing is sent yet.

    Args:
        kind: ``gitea`` also for Forgejo.
        address: the forge's.
        token: of Muster's account.
        ca_file: the certificates of authorities of one's own; None: the system's.
        options: what else may be chosen.

    Raises:
        ForgeError: the token cannot be one, or the file cannot be used.
    """
    options = replace(options or HttpOptions(), tls=certificates.trusted(ca_file))
    match kind:
        case "gitea":
            return GiteaClient(address, token, options=options)
        case "github":
            return GitHubClient(address, token, options=options)
