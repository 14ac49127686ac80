"""Sandbox profiles, as muster.yaml writes them; what they come to is merged in `fleet.sandbox`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from bot.config.limits import LimitBlock, Limits
from bot.config.types import Block, Size
from egress.tunnel.host_allowlist import RouteError, route
from fleet.roster.schema import Value
from fleet.sandbox.profiles import LEAST_PIDS, Engine, Kind, WrittenProfile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _route(value: str) -> str:
    try:
        route(value)
    except RouteError as error:
        raise ValueError(str(error)) from None
    return value


Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...],
    BeforeValidator(_listed),
    Field(max_length=200),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
"""A text, or a list of them."""
Routes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_route)], ...],
    BeforeValidator(_listed),
    Field(max_length=200),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
"""Hosts, as `egress.tunnel.host_allowlist` reads them."""


class ProfileBlock(Block):
    """A kind of sandbox: what an agent in it sees, reaches and may use."""

    kind: Kind | None = Field(default=None, description="Absent: that of the profiles that it extends, or bubblewrap.")
    extends: Words = Field(
        default=(), description="Profiles that it adds to, merged in this order; a later one, and this, go before."
    )
    routes: Routes = Field(
        default=(),
        description="Hosts that can be reached by TLS besides models: docs.python.org (port 443), "
        "git.example.com:8443, *.example.org; 10.0.0.5:8080 for a private address.",
    )
    mounts: Words = Field(
        default=(), description="Folders that it sees besides its workspace: /data read-only, /data:rw to write."
    )
    env: dict[str, Value] = Field(default={}, description="Environment variables, besides those of the roster.")
    memory: Size | None = Field(default=None, description="The most memory of all its processes, like 4 GB.")
    pids: int | None = Field(default=None, ge=LEAST_PIDS, le=1_000_000, description="The most processes at a time.")
    allowance: Limits = Field(default=(), description="What each agent in it may use that has no limit of its own.")
    pool: Limits = Field(default=(), description="What all agents in it may use together.")
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="Of a container: an image on this machine, with the agents' programs and python3 in it; or host, "
        "for this machine's own programs (podman alone).",
    )
    flags: Words = Field(
        default=(),
        description="Given to podman or docker besides Muster's own: such as leave the isolation alone, like --cpus=2.",
    )
    engine: Engine | None = Field(default=None, description="Of a container. Absent: podman where it is there.")

    def written(self) -> WrittenProfile:
        """Return the same for who merges it with others."""
        return WrittenProfile(
            kind=self.kind,
            extends=self.extends,
            routes=self.routes,
            mounts=self.mounts,
            env=self.env,
            memory=self.memory,
            pids=self.pids,
            image=self.image,
            flags=self.flags,
            engine=self.engine,
        )


def allowances(profiles: Mapping[str, ProfileBlock]) -> Iterator[tuple[str, LimitBlock]]:
    """Yield the limits of each agent in these, each with its scope."""
    for name, profile in profiles.items():
        for limit in profile.allowance:
            yield f"profile:{name}", limit


def pools(profiles: Mapping[str, ProfileBlock]) -> Iterator[tuple[str, LimitBlock]]:
    """Yield the limits of all agents in these together, each with its scope."""
    for name, profile in profiles.items():
        for limit in profile.pool:
            yield f"profile:{name}", limit
