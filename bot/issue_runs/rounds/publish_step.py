"""The step *publish*: what the agent committed is fetched, checked and pushed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.secrets import secrets_of
from bot.issue_runs.rounds.publishing import PublishTerms, publish
from bot.issue_runs.rounds.push_place import push_place
from bot.issue_runs.rounds.round_state import RoundContext, in_git_thread
from core.crash_points import declare
from core.secret_values import SecretValues
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun
from forge.model.errors import ForgeRefused
from forge.runs.order_book import Acted

CHECK: Final = declare("issues.check")


@dataclass(frozen=True, slots=True)
class PublishStep:
    """Publishes the commits of a round."""

    round: RoundContext
    scan_key: bytes

    async def act(self, run: IssueRun) -> Acted:
        """Do the step.

        Raises:
            ForgeError: the forge does not respond, or does not say what is needed for a push.
            RegisterError: the register cannot be used.
        """
        services, link = self.round.services, self.round.link
        async with services.store.write(CHECK) as tx:
            await issue_runs.change(tx, run.id, only=ACTIVE, state="checking", active_at=services.clock())
        place = await push_place(link, run)
        facts = await link.client.repository(place)
        try:
            protected = await link.client.protected_branches(place)
        except ForgeRefused:
            protected = ()  # Our token may not see the rules; then the forge keeps them itself.
        given_up = Event()
        terms = PublishTerms(
            default_branch=facts.default_branch,
            protected=protected,
            place=place,
            scan_key=self.scan_key,
            known=SecretValues(secrets_of(services.settings, services.environ)),
            folder=link.folder / ".incoming" / run.agent,
            given_up=given_up.is_set,
        )
        try:
            done = await in_git_thread(partial(publish, self.round.ground(run), run, terms))
        finally:
            given_up.set()

        async def also(tx: AsyncConnection) -> None:
            values: dict[str, object] = {"findings": [dict(each) for each in done.findings] or None}
            if done.base_sha is not None:
                values["base_sha"] = done.base_sha
            if done.sha is not None:
                values |= {"branch": done.branch, "pushed_sha": done.sha}
            await issue_runs.change(tx, run.id, only=ACTIVE, active_at=services.clock(), **values)

        return Acted(done.result.value, also)
