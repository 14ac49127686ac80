"""The check of a pull request's records: everything is read from the forge into a git folder that is deleted again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.config.forge.settings import ForgeBlock
from bot.text.errors import UserError
from fleet.workspace import find, sandboxed_git
from fleet.workspace.repository_discovery import Repository
from fleet.workspace.sandboxed_git import GitFailed
from forge.clients.address import ForgeAddress
from forge.clients.opening import open_client
from forge.model.references import IssueReference
from forge.model.values import PullRequest
from forge.provenance import git_notes, pull_request
from forge.provenance.verification import (
    AuditEvidence,
    CommitVerification,
    ProvenanceFault,
    named_digests,
    verify,
)
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.mirror import MOST_PACK_BYTES, RepositoryMirror

_HEAD: Final = "refs/heads/muster-verified-pull-request"

#: Reads the audit log for the lines with these digests.
ReadAudit = Callable[[frozenset[str]], Awaitable[AuditEvidence]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PullVerification:
    """What was found out of a pull request."""

    reference: IssueReference
    commits: tuple[CommitVerification, ...]
    """Newest first."""
    description: ProvenanceFault | None
    """What does not match in its description."""
    notice: str | None = None

    @property
    def is_fine(self) -> bool:
        return self.description is None and not any(each.faults for each in self.commits)


def reference_of(text: str, block: ForgeBlock | None) -> IssueReference | None:
    """Return the pull request that somebody named; None: it is something else.

    Raises:
        UserError: it is one, but there is no such forge.
    """
    try:
        found = pull_request.reference_of(text, "" if block is None else block.address)
    except ValueError as error:
        raise UserError(str(error), code="provenance.other_forge") from None
    if found is not None and block is None:
        raise UserError(
            f"{text[:200]!r} is a pull request, but muster.yaml names no forge. Add the block `forge:`, or check "
            "commits of a clone with --repository.",
            code="provenance.no_forge",
        )
    return found


async def verify_pull_request(
    block: ForgeBlock,
    environ: Mapping[str, str],
    reference: IssueReference,
    keys: Collection[str],
    read_audit: ReadAudit | None,
) -> PullVerification:
    """Read a pull request, its commits and their notes, and compare them.

    Args:
        block: the forge of muster.yaml.
        environ: in which references to secrets are resolved.
        reference: the pull request.
        keys: the public keys that are trusted.
        read_audit: reads the audit log; None: it is not compared.

    Raises:
        ForgeError: the forge does not respond, or says no.
        FleetError: git failed.
    """
    address = ForgeAddress.parse(block.address)
    token = block.token.resolve(environ)
    client = open_client(block.kind, address, token, ca_file=block.authority)
    try:
        pull = await client.read_pull_request(reference)
    finally:
        await client.close()
    # Records are beside the branch, which may be in a fork.
    remote, noted = (
        ForgeRemote(url=address.clone_url(place), token=token, ca_file=block.authority)
        for place in (reference.repository, pull.head_repository or reference.repository)
    )
    with tempfile.TemporaryDirectory(prefix="muster-verify-") as folder:
        read = await asyncio.to_thread(_read, Path(folder), reference, pull, remote, noted)
        audit = None if read_audit is None else await read_audit(named_digests(read.notes))
        verified = verify(read.notes, read.commits, keys, audit)
        matching = [each.commit for each in verified if each.records and not each.faults]
        before = await asyncio.to_thread(_before, read, matching)
    verified = pull_request.pushed_together(verified, before)
    notice = "Its base has all of its commits, so only the last one is checked." if read.is_merged else None
    fault = pull_request.description_fault(pull.body, verified)
    return PullVerification(reference=reference, commits=verified, description=fault, notice=notice)


@dataclass(frozen=True, slots=True)
class _ReadPull:
    repository: Repository
    base: str
    commits: tuple[str, ...]
    notes: Mapping[str, str]
    is_merged: bool


def _read(
    folder: Path, reference: IssueReference, pull: PullRequest, remote: ForgeRemote, noted: ForgeRemote
) -> _ReadPull:
    repository = RepositoryMirror(folder=folder, name=reference.repository).update(remote, pull.base_branch)
    options = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-gc", "--refmap=")
    _git(repository, remote, "fetch", *options, "--", remote.url, f"+refs/pull/{reference.number}/head:{_HEAD}")
    if _git(repository, noted, "ls-remote", "--", noted.url, git_notes.REF).strip():
        _git(repository, noted, "fetch", *options, "--", noted.url, f"+{git_notes.REF}:{git_notes.REF}")
    found = find(repository.folder)
    assert found is not None
    base = f"refs/heads/{pull.base_branch}"
    new = git_notes.run_local(found.common, ("rev-list", "--max-count=1", f"{base}..{_HEAD}", "--"))
    is_merged = new.status == 0 and not new.said.strip()
    commits = git_notes.commits_of(found, _HEAD if is_merged else f"{base}..{_HEAD}")
    return _ReadPull(found, base, commits, git_notes.read(found, commits), is_merged)


def _before(read: _ReadPull, matching: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return of each commit those of the pull request that it descends from."""
    if read.is_merged:
        return {}
    found = {commit: git_notes.commits_of(read.repository, f"{read.base}..{commit}") for commit in matching}
    return {commit: tuple(each for each in olds if each != commit) for commit, olds in found.items()}


def _git(repository: Repository, remote: ForgeRemote, *words: str) -> str:
    done = remote.run(*words, git_dir=repository.common, file_bytes=MOST_PACK_BYTES)
    if done.status == 0:
        return done.said
    said = remote.cleaned(sandboxed_git.reason(done.complaint))
    raise GitFailed(f"Reading the pull request failed: {said}", said)
