"""The configured forge of a running orchestrator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bot.config.forge.settings import ForgeBlock
from forge.model.forge_client import ForgeClient
from forge.model.references import RepositoryName
from forge.model.values import ForgeUser, TokenFacts
from forge.webhooks.counts import WebhookCounts


@dataclass(slots=True)
class ForgeLink:
    """What everything about issues shares."""

    settings: ForgeBlock
    host: str
    """The forge's host, by which its rows are told from another's."""
    client: ForgeClient
    token: str
    """For git; it reaches a child process by a file descriptor alone."""
    marker_secret: bytes
    """Signs the markers in our own comments."""
    folder: Path
    """Mirrors of repositories."""
    counts: WebhookCounts = field(default_factory=WebhookCounts)
    trouble: dict[str, str] = field(default_factory=dict)
    """What does not work now, by what was tried: for `health`, and told in the room once."""
    looked_at: dict[str, float] = field(default_factory=dict)
    """When each repository was last looked through, by our clock."""
    _facts: TokenFacts | None = None

    @property
    def repositories(self) -> tuple[RepositoryName, ...]:
        return tuple(RepositoryName.parse(each) for each in self.settings.repositories)

    def configured(self, name: str) -> RepositoryName | None:
        """Return the configured repository of this name, in any case; None if there is none."""
        return next((each for each in self.repositories if str(each).lower() == name.lower()), None)

    def latest(self, now: float) -> float:
        """Return the latest time up to which changes can have been seen.

        A forge may tell a time in the future: its clock is wrong, or somebody set the time of a change. Changes after
        it would never be looked for. So no cursor goes beyond what both clocks say.

        Args:
            now: by our clock, in seconds since the epoch.
        """
        said = self.client.said_at
        return now if said is None else min(now, said)

    async def whoami(self) -> TokenFacts:
        """Return the account that the token speaks for; asked once.

        Raises:
            ForgeError: the forge does not tell.
        """
        if self._facts is None:
            self._facts = await self.client.token_facts()
        return self._facts

    async def memberships(self, users: Iterable[ForgeUser]) -> dict[int, bool]:
        """Return who is a member of the organization at this moment, by id.

        Raises:
            MembershipUnknown: the forge does not tell.
        """
        organization = self.settings.organization
        return {user.id: await self.client.is_org_member(organization, user.login) for user in users}
