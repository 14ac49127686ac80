"""The block `forge` of muster.yaml.

forge:
  kind: gitea
  url: https://git.example.org
  token: env:MUSTER_FORGE_TOKEN
  organization: acme
  repositories: [acme/app, acme/site]
  sandbox: bubblewrap
  webhooks:
    secret: env:MUSTER_WEBHOOK_SECRET
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from bot.config.surfaces.web import parse_listen
from bot.config.types import Block, Duration, Folder, Url
from core.network.loopback import is_loopback
from core.secret_references import Reference
from fleet.sandbox.profiles import NAME as PROFILE_NAME
from forge.model.references import RepositoryName

#: Where webhooks arrive unless muster.yaml says otherwise.
LISTEN = "127.0.0.1:8476"
_GITHUB = "https://github.com"


def _listen(value: str) -> str:
    try:
        parse_listen(value)
    except ValueError:
        raise ValueError(
            f"found {value[:80]!r}; expected an address of this machine and a port, such as {LISTEN}. A reverse proxy "
            "with TLS brings the forge's events there."
        ) from None
    return value


def _repository(value: str) -> str:
    return str(RepositoryName.parse(value))


def _organization(value: str) -> str:
    RepositoryName.parse(f"{value}/x")
    return value


def _private(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError(f"found {value[:80]!r}; write https:// first. A token in plain text can be read on the way.")
    return value


_Author = Annotated[str, Field(pattern=r"^[^<>\n\r]{1,100} <[^<>\s]{1,200}>$")]


class WebhooksBlock(Block):
    """Events that the forge sends. They make Muster quick; what is lost is found by looking at the forge."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default=LISTEN, description="The address and port on this machine. A reverse proxy brings the events there."
    )
    secret: Reference = Field(
        description="The secret that the forge signs with, at least 16 characters: env:NAME, file:PATH or keyring:NAME."
    )


class WakesBlock(Block):
    """How often an agent is woken after its pull request was opened. Then a person is asked."""

    per_run: int = Field(default=20, ge=0, le=1000, description="By comments, in all.")
    per_day: int = Field(default=10, ge=0, le=1000, description="By comments, in any 24 hours.")
    failed_checks: int = Field(
        default=3, ge=0, le=100, description="By checks (CI) that failed and by conflicts with the base, in all."
    )


class PushesBlock(Block):
    """What is pushed, and how large it may be."""

    fork: bool = Field(
        default=False,
        description=(
            "true: push to the fork of the token's account, which Muster makes. A branch there reaches no secrets of "
            "the repository's CI."
        ),
    )
    author: _Author | None = Field(
        default=None, description="The author of agents' commits, like Ada's fleet <fleet@example.org>."
    )
    authors: dict[str, _Author] = Field(
        default={}, description="The same for single roles or agents, by the name in the label."
    )
    protected_paths: tuple[str, ...] = Field(
        default=(),
        max_length=200,
        description="Patterns of paths that agents may not change, besides the workflows of the forge's CI.",
    )


class ForgeBlock(Block):
    """Issues of a forge that become pull requests. Without this block there are none."""

    kind: Literal["gitea", "github"] = Field(description="gitea (also for Forgejo) or github.")
    url: Annotated[Url, AfterValidator(_private)] | None = Field(
        default=None,
        description="The address of the forge, such as https://git.example.org. Default for GitHub: its own.",
    )
    ca_file: Folder | None = Field(
        default=None,
        description=(
            "The certificates of the forge's own authority, a file in PEM. Then no others count. Default: those of the "
            "system."
        ),
    )
    token: Reference = Field(
        description="The token of the account that Muster acts by: env:NAME, file:PATH or keyring:NAME."
    )
    organization: Annotated[str, AfterValidator(_organization)] = Field(
        description="Whose members may have issues picked up, and wake runs by comments."
    )
    repositories: tuple[Annotated[str, AfterValidator(_repository)], ...] = Field(
        min_length=1, max_length=100, description="The repositories, each as owner/repo."
    )
    mode: Literal["webhook", "poll"] | None = Field(
        default=None,
        description=(
            "webhook: the forge tells what happens. poll: Muster looks every `poll`, for instance behind NAT. Default: "
            "webhook if there is a block `webhooks`."
        ),
    )
    webhooks: WebhooksBlock | None = Field(default=None, description="Events that the forge sends.")
    poll: Duration = Field(default=60.0, ge=5.0, description="How often to look in the mode poll.")
    sweep: Duration = Field(
        default=600.0, ge=30.0, description="How often to look for what a lost event missed, in the mode webhook."
    )
    sandbox: Annotated[str, Field(pattern=f"^{PROFILE_NAME.pattern}$")] | None = Field(
        default=None,
        description="The sandbox profile of runs whose issue names none. Default: none, and such issues are refused.",
    )
    runs: int = Field(default=3, ge=1, le=1000, description="How many agents work on issues at a time. Others wait.")
    silence: Duration = Field(
        default=1800.0,
        ge=60.0,
        description="After how much time without any event of a run its agent is taken for lost.",
    )
    wakes: WakesBlock = WakesBlock()
    pushes: PushesBlock = PushesBlock()
    names: dict[str, str] = Field(
        default={},
        description="How people are named in records at the forge, by identity, such as matrix:@ana:example.org: Ana.",
    )
    keep_commits: Duration = Field(
        default=30 * 86_400.0, description="How long the commits of an ended run are kept on this machine."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "gitea" and self.url is None:
            raise ValueError("found no url; write the address of the forge, such as https://git.example.org.")
        if self.mode == "webhook" and self.webhooks is None:
            raise ValueError(
                "found `mode: webhook` without a block `webhooks`; write its secret there, or `mode: poll`."
            )
        if len({each.casefold() for each in self.repositories}) < len(self.repositories):
            raise ValueError("found a repository twice under `repositories`.")
        if self.pushes.fork and len({each.casefold().partition("/")[2] for each in self.repositories}) < len(
            self.repositories
        ):
            raise ValueError("found two repositories of one name; with `pushes: fork` each needs a name of its own.")
        return self

    @property
    def address(self) -> str:
        """The base of the forge's addresses."""
        return self.url or _GITHUB

    @property
    def authority(self) -> Path | None:
        """The certificates of the forge's own authority."""
        return None if self.ca_file is None else Path(self.ca_file)

    @property
    def listens(self) -> bool:
        """Whether the forge sends its events."""
        return self.webhooks is not None and self.mode != "poll"

    @property
    def every(self) -> float:
        """Seconds between looks at the forge."""
        return self.sweep if self.listens else self.poll
