"""Where the branch of a run is pushed to: its repository, or the fork of it that Muster's account has."""

from __future__ import annotations

from bot.issue_runs.forge_link import ForgeLink
from database.queries.forge.issue_runs import IssueRun
from forge.model.errors import ForgeMissing
from forge.model.references import IssueReference, RepositoryName
from forge.publishing import forks


async def push_place(link: ForgeLink, run: IssueRun) -> RepositoryName:
    """Return the repository that the branch of a run is pushed to. A fork that is missing is made.

    While there is a pull request, that is where its branch is, whatever muster.yaml says by now.

    Raises:
        ForgeAway: the forge does not respond, or still makes the fork.
        ForgeError: the forge says no, or there is no fork that can be used.
    """
    name = RepositoryName.parse(run.repository)
    account = (await link.whoami()).account.login
    head = await _head(link, run, name)
    if head is not None and (head.is_same(name) or head.owner.lower() == account.lower()):
        return head
    return await forks.ensure(link.client, name, account) if link.settings.pushes.fork else name


async def _head(link: ForgeLink, run: IssueRun, name: RepositoryName) -> RepositoryName | None:
    """Return where the branch of the pull request is; None if there is none, or it or that repository was deleted."""
    if run.pull_request is None:
        return None
    try:
        return (await link.client.read_pull_request(IssueReference(name, run.pull_request))).head_repository
    except ForgeMissing:
        return None
