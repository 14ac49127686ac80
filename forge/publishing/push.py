"""Pushing exactly the commit that was checked, to a branch of Muster's own, over nobody else's commits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fleet.workspace import repository_refs, sandboxed_git
from forge.publishing import branch_names, remote_answers
from forge.publishing.branch_review import BranchReview
from forge.publishing.errors import PublishingError
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.incoming import IncomingBranch
from forge.publishing.remote_answers import PushOutcome, PushResult

_HEADS: Final = "refs/heads/"


class RemoteUnread(PublishingError):
    """The branches of a remote could not be listed; `result` says why."""

    code = "publishing.remote_unread"

    def __init__(self, message: str, result: PushResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, kw_only=True, slots=True)
class PushTarget:
    """Where a branch is pushed to."""

    remote: ForgeRemote
    """The repository, or the bot's fork of it."""
    branch: str
    last_pushed: str | None
    """The commit at which Muster left the branch; None: it is to be new."""
    default_branch: str
    protected: Collection[str] = ()
    """Rules of protected branches, as the forge tells them."""


def push(incoming: IncomingBranch, review: BranchReview, target: PushTarget) -> PushResult:
    """Push the tip of a fetched branch, which was reviewed and is fine.

    The branch at the forge moves only if it is where Muster left it, or if there is none and none is expected. That is
    one comparison at the forge, so a push of somebody else's in between is not lost.

    Raises:
        PublishingError: it was not reviewed, or has findings, or Muster never pushes to this branch.
    """
    if review.findings or review.listing.tip != incoming.tip:
        raise PublishingError(
            f"{incoming.tip[:12]} was not checked, or something is wrong with it. Nothing was pushed.",
            code="publishing.not_checked",
        )
    refusal = branch_names.refusal(
        target.branch, default_branch=target.default_branch, protected=tuple(target.protected)
    )
    if refusal is not None:
        raise PublishingError(refusal, code="publishing.protected_branch")
    expected = target.last_pushed or ""
    if expected and repository_refs.COMMIT.fullmatch(expected) is None:
        raise PublishingError(f"{expected[:80]!r} is no commit.", code="publishing.bad_commit")

    def result(outcome: PushOutcome, words: str = "") -> PushResult:
        return PushResult(outcome=outcome, branch=target.branch, sha=incoming.tip, words=target.remote.cleaned(words))

    name = f"{_HEADS}{target.branch}"
    try:
        done = target.remote.run(
            *("push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no"),
            *(f"--force-with-lease={name}:{expected}", "--", target.remote.url, f"{incoming.tip}:{name}"),
            git_dir=incoming.git_dir,
            given_up=incoming.given_up,
        )
    except sandboxed_git.GivenUp:
        raise
    except sandboxed_git.GitFailed as error:
        return result(PushOutcome.AWAY if error.late else PushOutcome.DECLINED, str(error))
    return result(*remote_answers.of_push(done.status, done.said, done.complaint))


def remote_branches(incoming: IncomingBranch, remote: ForgeRemote, number: int) -> dict[str, str]:
    """Return the commits of the branches at a remote that are named for an issue, by their names.

    Raises:
        RemoteUnread: they could not be listed.
    """
    pattern = f"{_HEADS}{branch_names.PREFIX}{number}*"
    failed: PushResult | None = None
    try:
        done = remote.run(
            *("ls-remote", "--heads", "--", remote.url, pattern), git_dir=incoming.git_dir, given_up=incoming.given_up
        )
        outcome, said = remote_answers.of_failure(done.complaint), done.complaint
        if done.status == 0:
            lines = (line.partition("\t") for line in done.said.splitlines())
            return {name.removeprefix(_HEADS): commit for commit, _, name in lines if name.startswith(_HEADS)}
    except sandboxed_git.GivenUp:
        raise
    except sandboxed_git.GitFailed as error:
        outcome, said = (PushOutcome.AWAY if error.late else PushOutcome.DECLINED), str(error)
    failed = PushResult(outcome=outcome, branch=pattern, sha=incoming.tip, words=remote.cleaned(said))
    raise RemoteUnread(f"The branches of {remote.url} could not be listed: {failed.words}", failed)
