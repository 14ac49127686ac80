"""Sandbox profiles of muster.yaml. `fleet.sandbox` merges them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from bot.config.limits import LimitBlock, Limits
from bot.config.types import Block, Size
from egress.tunnel.host_allowlist import RouteError, route
from fleet.roster.schema import Value
from fleet.sandbox.container import Engine
from fleet.sandbox.profiles import LEAST_PIDS, Kind, WrittenProfile


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
"""A string, or a list of strings."""
Routes = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_route)], ...],
    BeforeValidator(_listed),
    Field(max_length=200),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
"""Hosts in the syntax of `egress.tunnel.host_allowlist`."""


class ProfileBlock(Block):
    """A sandbox profile: what its agents can see, reach and use."""

    kind: Kind | None = Field(default=None, description="Default: that of the profiles that it extends, or bubblewrap.")
    extends: Words = Field(
        default=(),
        description=(
            "Profiles that it extends, merged in this order. Later ones override earlier ones, and this one"
            " overrides all."
        ),
    )
    routes: Routes = Field(
        default=(),
        description=(
            "Hosts that it can reach over TLS besides models: docs.python.org (port 443), "
            "git.example.com:8443, *.example.org, or 10.0.0.5:8080 for a private address."
        ),
    )
    mounts: Words = Field(
        default=(), description="Folders that it sees besides its workspace: /data is read-only, /data:rw is writable."
    )
    env: dict[str, Value] = Field(default={}, description="Environment variables besides those of the roster.")
    memory: Size | None = Field(default=None, description="The most memory of all its processes, such as 4 GB.")
    pids: int | None = Field(
        default=None, ge=LEAST_PIDS, le=1_000_000, description="The maximum number of processes at a time."
    )
    allowance: Limits = Field(default=(), description="The allowance of each agent in it without one of its own.")
    pool: Limits = Field(default=(), description="The limit for all its agents together.")
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description=(
            "For a container: a local image with python3 and the agents' programs, or host for this "
            "machine's own programs (podman only)."
        ),
    )
    flags: Words = Field(
        default=(),
        description="More arguments for podman or docker that do not weaken the isolation, such as --cpus=2.",
    )
    engine: Engine | None = Field(
        default=None, description="The container program. Default: podman if it is installed."
    )

    def written(self) -> WrittenProfile:
        """Return the profile in the form that `fleet.sandbox` merges."""
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
    """Yield the limits that bound each agent of these profiles by itself, each with its scope."""
    for name, profile in profiles.items():
        for limit in profile.allowance:
            yield f"profile:{name}", limit


def pools(profiles: Mapping[str, ProfileBlock]) -> Iterator[tuple[str, LimitBlock]]:
    """Yield the limits that bound all agents of these profiles together, each with its scope."""
    for name, profile in profiles.items():
        for limit in profile.pool:
            yield f"profile:{name}", limit
