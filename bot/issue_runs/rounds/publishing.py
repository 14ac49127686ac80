"""From the commits of a run's agent to its branch at the forge. Blocking, and told as one value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bot.issue_runs.rounds.workspace import RunGround
from core.secret_values import SecretValues
from database.queries.forge.issue_runs import IssueRun
from fleet.errors import FleetError
from fleet.workspace import repository_refs, sandboxed_git
from forge.model.errors import ForgeAway
from forge.model.references import RepositoryName
from forge.publishing import branch_names, incoming, push
from forge.publishing.branch_review import review
from forge.publishing.errors import PublishingError
from forge.publishing.findings import PublishingFinding
from forge.publishing.incoming import IncomingBranch
from forge.publishing.push import PushTarget, RemoteUnread
from forge.publishing.remote_answers import PushOutcome
from forge.publishing.rules import PROTECTED_PATHS, PublishingRules
from forge.publishing.secret_scan import ScanSettings
from forge.runs.round import PublishResult

#: The kind of finding that there is nothing to push.
EMPTY: Final = "empty"
#: What is to be done where the forge did not take a branch.
_ADVICE: Final = {
    PushOutcome.MOVED: "Somebody else pushed to the branch {branch}, or deleted it. Nothing of theirs was changed. "
    "Keep their commits on another branch, set {branch} back to {left}, and try again.",
    PushOutcome.DECLINED: "The forge declined the push: {words}",
    PushOutcome.UNAUTHORIZED: "The forge's account may not push to {repository}: {words}",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishTerms:
    """What the forge and the configuration require of one push."""

    default_branch: str
    protected: Collection[str]
    place: RepositoryName
    """What is pushed to: the repository, or the account's fork of it."""
    scan_key: bytes
    known: SecretValues | None
    folder: Path
    """Where the commits are looked at; nothing else may be in it."""
    given_up: Callable[[], bool] = lambda: False


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedBranch:
    """The outcome for the commits of one round."""

    result: PublishResult
    branch: str | None = None
    sha: str | None = None
    base_sha: str | None = None
    findings: tuple[Mapping[str, Any], ...] = ()


def publish(ground: RunGround, run: IssueRun, terms: PublishTerms) -> PublishedBranch:
    """Fetch, check and push what the agent committed.

    Raises:
        ForgeAway: the forge does not respond.
        RemoteUnread: git does not reach the fork. It may be new.
    """
    try:
        return _publish(ground, run, terms)
    except ForgeAway:
        raise
    except RemoteUnread as error:
        if error.result.outcome is PushOutcome.AWAY:
            raise ForgeAway(str(error)) from error
        if error.result.outcome is PushOutcome.UNAUTHORIZED and not terms.place.is_same(ground.name):
            # GitHub tells of a new fork before git reaches it.
            raise
        return _refused("push", str(error))
    except sandboxed_git.GivenUp:
        raise
    except (PublishingError, FleetError) as error:
        return _refused("push", str(error))


def _publish(ground: RunGround, run: IssueRun, terms: PublishTerms) -> PublishedBranch:
    base_branch = run.base_branch or terms.default_branch
    repository = ground.update(base_branch)
    record = ground.clone.record()
    base = run.base_sha if record is None else record.base
    if base is None:
        return _refused(EMPTY, "There is no base to compare with: the repository had no commit.")
    rules = PublishingRules(
        identity=ground.identity,
        issue=run.number,
        protected=(*PROTECTED_PATHS, *ground.link.settings.pushes.protected_paths),
        allowed_marks=frozenset(run.allowed),
    )
    with incoming.opened(terms.folder, ground.clone, repository, base, given_up=terms.given_up) as fetched:
        if fetched is None or fetched.tip == base:
            return _refused(EMPTY, "The agent committed nothing.")
        if fetched.tip == run.pushed_sha and run.pull_request is not None:
            return PublishedBranch(result=PublishResult.UNCHANGED, branch=run.branch, sha=fetched.tip, base_sha=base)
        head = repository_refs.commit(repository, f"refs/heads/{base_branch}")
        branch = _rebased(fetched, head)
        found = review(branch, rules, ScanSettings(key=terms.scan_key, known=terms.known))
        if not found.may_be_pushed:
            listed = tuple(_finding(each) for each in found.findings)
            return PublishedBranch(result=PublishResult.REFUSED, base_sha=branch.base, findings=listed)
        remote = ground.remote(terms.place)
        taken = push.remote_branches(branch, remote, run.number)
        ours = (run.pushed_sha, branch.tip)
        name = run.branch or branch_names.chosen(run.number, run.title, taken=taken, ours=lambda sha: sha in ours)
        if name is None:
            return _refused("moved", f"All names of branches for the issue {run.number} are taken. Delete some.")
        target = PushTarget(
            remote=remote,
            branch=name,
            last_pushed=run.pushed_sha,
            default_branch=terms.default_branch,
            protected=tuple(terms.protected),
        )
        result = push.push(branch, found, target)
    if result.outcome is PushOutcome.AWAY:
        raise ForgeAway(f"The branch {name} could not be pushed: {result.words}")
    if result.outcome in (PushOutcome.PUSHED, PushOutcome.UNCHANGED):
        return PublishedBranch(result=PublishResult.PUSHED, branch=name, sha=result.sha, base_sha=branch.base)
    if result.outcome is PushOutcome.MOVED and run.pushed_sha is None:
        return _refused("moved", f"Somebody made the branch {name} meanwhile. Try again, and another name is taken.")
    left = (run.pushed_sha or "")[:12]
    said = _ADVICE[result.outcome].format(branch=name, words=result.words, repository=terms.place, left=left)
    return _refused(result.outcome.value, said)


def _rebased(branch: IncomingBranch, head: str | None) -> IncomingBranch:
    """Return the branch, compared with the newest commit of the base that it descends from.

    An agent may have rebased onto what the base has by now. Those commits are at the forge already.
    """
    if head is None or head == branch.base:
        return branch
    done = branch.git("merge-base", head, branch.tip)
    found = done.said.strip()
    if done.status != 0 or repository_refs.COMMIT.fullmatch(found) is None:
        return branch
    return replace(branch, base=found, newest_base=head)


def _finding(found: PublishingFinding) -> Mapping[str, Any]:
    return {
        "kind": found.kind.value,
        "sentence": found.sentence,
        "commit": found.commit,
        "path": found.path,
        "line": found.line,
        "mark": found.mark,
    }


def _refused(kind: str, sentence: str) -> PublishedBranch:
    return PublishedBranch(result=PublishResult.REFUSED, findings=({"kind": kind, "sentence": sentence},))
