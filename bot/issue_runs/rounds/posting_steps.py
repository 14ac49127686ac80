"""The steps *propose* and *record*: the posts of a round at the forge.

Both look first for what an earlier try left there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs import run_record
from bot.issue_runs.agent_tools.write_order import kept_description, writes
from bot.issue_runs.rounds import text
from bot.issue_runs.rounds.push_place import push_place
from bot.issue_runs.rounds.round_state import (
    DONE,
    GIVEN_UP,
    OPENED,
    RoundContext,
    in_git_thread,
    issue_of,
    marker_key,
    order_key,
)
from core.errors import MusterError
from core.signing.signing_key import SigningKey
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun
from fleet.workspace import find
from fleet.workspace.sandboxed_git import Done
from forge.cleaning.markdown import clean_line
from forge.model.errors import ForgeAway
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import PullRequest
from forge.provenance import git_notes, markers
from forge.provenance.notes import note_line
from forge.provenance.posts import compose
from forge.provenance.record import ProvenanceRecord
from forge.publishing.forge_remote import ForgeRemote
from forge.runs.order_book import Acted
from forge.runs.round import RoundStep

#: Characters of a pull request's title.
_LONGEST_TITLE: Final = 200
#: What git does at the forge, with its token. Everything else is done here without it.
_REMOTE: Final = ("ls-remote", "fetch", "push")

_log = structlog.get_logger("forge.posts")


@dataclass(frozen=True, slots=True)
class ProposeStep:
    """Opens the pull request of a run, or says that it is ready."""

    round: RoundContext

    async def act(self, run: IssueRun) -> Acted:
        """Do the step.

        Raises:
            ForgeError: the forge does not respond, or says no.
            RegisterError: the register cannot be used.
        """
        link = self.round.link
        assert run.branch is not None
        name = RepositoryName.parse(run.repository)
        pull = await link.client.pull_request_of(name, run.branch)
        if pull is None or (not pull.is_open and pull.number != run.pull_request):
            pull = await self._open(run, name)
        elif pull.is_open and pull.is_draft and run.is_done:
            await link.client.mark_ready(IssueReference(name, pull.number))
        opened = pull
        is_new = opened.number != run.pull_request
        state = "open" if opened.is_open else "merged" if opened.is_merged else "closed"

        async def also(tx: AsyncConnection) -> None:
            values = {"pull_request": opened.number, "pull_url": opened.url, "pull_state": state}
            await issue_runs.change(tx, run.id, only=ACTIVE, active_at=self.round.services.clock(), **values)

        return Acted(OPENED if is_new else DONE, also)

    async def _open(self, run: IssueRun, name: RepositoryName) -> PullRequest:
        link = self.round.link
        words, record = await _made(self.round, run)
        async with self.round.services.store.read() as tx:
            wanted = await kept_description(tx, run.id)
        body = compose(
            words if wanted is None else wanted,
            record,
            key=marker_key(run, RoundStep.PROPOSE),
            secret=link.marker_secret,
            ours=f"Closes #{run.number}",
        )
        place = await push_place(link, run)
        assert run.branch is not None
        assert run.base_branch is not None
        return await link.client.open_pull_request(
            name,
            title=clean_line(run.title, _LONGEST_TITLE) or f"Issue {run.number}",
            body=body,
            head_branch=run.branch,
            head_owner=None if place.is_same(name) else place.owner,
            base_branch=run.base_branch,
            draft=not run.is_done,
        )


@dataclass(frozen=True, slots=True)
class RecordStep:
    """Posts how the work was made: as a comment, and signed in the notes of the commit."""

    round: RoundContext
    signing_key: Path

    async def act(self, run: IssueRun) -> Acted:
        """Do the step.

        Raises:
            ForgeError: the forge does not respond, or says no.
            RegisterError: the register cannot be used.
        """
        link = self.round.link
        async with self.round.services.store.read() as tx:
            waiting = writes(await forge_orders.of_run(tx, run.id))
            proposed = await forge_orders.get(tx, order_key(run.id, run.round, RoundStep.PROPOSE))
        if proposed is not None and proposed.outcome is not None and proposed.outcome["is"] == GIVEN_UP:
            # The record belongs to the pull request that is not there. It is posted after the next try.
            return Acted(GIVEN_UP)
        for order in waiting:
            # What the agent ordered for the pull request can be done now.
            self.round.services.orders.wake(order.key)
        name = RepositoryName.parse(run.repository)
        where = issue_of(run) if run.pull_request is None else IssueReference(name, run.pull_request)
        key = marker_key(run, RoundStep.RECORD)
        words, record = await _made(self.round, run)
        ours = (await link.whoami()).account.id
        if markers.find(await link.client.read_comments(where), key, link.marker_secret, ours) is None:
            is_new = proposed is not None and proposed.outcome is not None and proposed.outcome["is"] == OPENED
            # What the description says already is not said twice.
            said, added = ("", text.invitation(link.settings.organization)) if is_new else (words, "")
            post = compose(said, record, key=key, secret=link.marker_secret, ours=added)
            await link.client.post_comment(where, post)
        if run.pushed_sha is not None:
            await self._note(run, run.pushed_sha, record)
        return Acted(DONE)

    async def _note(self, run: IssueRun, commit: str, record: ProvenanceRecord) -> None:
        """Sign the record in the notes of the commit, beside its branch.

        The comment has it too, so a failure is only logged.
        """
        try:
            remote = self.round.ground(run).remote(await push_place(self.round.link, run))
            await in_git_thread(partial(self._publish_note, run, commit, record, remote))
        except ForgeAway:
            raise
        except MusterError as error:
            _log.warning("forge.record_not_noted", run=run.id, reason=str(error))

    def _publish_note(self, run: IssueRun, commit: str, record: ProvenanceRecord, remote: ForgeRemote) -> None:
        def run_git(git_dir: Path, words: Sequence[str]) -> Done:
            return remote.run(*words, git_dir=git_dir) if words[0] in _REMOTE else git_notes.run_local(git_dir, words)

        repository = find(self.round.ground(run).mirror.place)
        if repository is not None:
            line = note_line(record, commit, SigningKey.at(self.signing_key))
            git_notes.publish(repository, remote.url, commit, line, run=run_git)


async def _made(round_: RoundContext, run: IssueRun) -> tuple[str, ProvenanceRecord]:
    """Return the agent's words about a round, and its record."""
    services = round_.services
    async with services.store.read() as tx:
        work = await round_.work_of(tx, run)
    gathered = await run_record.gather(services, run, work, names=round_.link.settings.names)
    words = "" if run.signal is None else str(run.signal.get("summary", ""))
    if not words and gathered.work is not None:
        words = gathered.work.answer or ""
    return services.redact(words), run_record.record_of(gathered)
