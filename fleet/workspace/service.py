"""The workspaces of all agents: which kind each gets, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet import sandbox
from fleet.control.host_spec import AgentSpec
from fleet.errors import FleetError
from fleet.sandbox.profiles import SandboxProfile
from fleet.supervision import host_lifecycle
from fleet.workspace import change_survey, repository_discovery, repository_refs, untrusted_files
from fleet.workspace import clone as clones
from fleet.workspace.agent_changes import AgentCommits, AgentDiff
from fleet.workspace.branch_update import Collected
from fleet.workspace.clone import Clone, NotClean
from fleet.workspace.merge_tests import MergeSandbox
from fleet.workspace.merge_trial import MergeRequest
from fleet.workspace.repository_discovery import Repository

_TOLD: Final = (
    "Your workspace {place} is a git clone of the operator's repository, on your branch {branch}. Commit your work on "
    "that branch: its commits are taken over into the operator's repository by themselves, and nothing else is. There "
    "is no need to push. `git fetch origin` brings what is committed there."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Where an agent works."""

    place: Path
    readonly: tuple[Path, ...] = ()
    """What it has to see beside it."""
    instructions: str = ""
    """What it should know of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspaces:
    own: Callable[[str], Path]
    """The folder that an agent gets, unless it works in one of the person's."""
    folder: Callable[[str], Path]
    """The private folder of an agent."""
    hidden: Sequence[Path]
    """Muster's own folders."""
    repositories: Path | None = None
    """Where Muster keeps repositories of its own, of which agents get clones although they lie in such a folder."""

    # --- deciding -----------------------------------------------------------------------------------------------

    def check(self, name: str, named: Path, *, clone: bool | None, sandboxed: bool) -> Repository | None:
        """See whether an agent may work in the folder that is named for it.

        Args:
            name: the agent.
            named: the folder.
            clone: what its roster entry says of that; None: nothing.
            sandboxed: whether it works in a sandbox.

        Returns:
            The repository that it gets a clone of; None: it works in the folder itself.

        Raises:
            FleetError: it may not; the message says what to do.
        """
        repository = self._source(name, named, clone=clone, goes_on=True)
        if repository is not None:
            repository_discovery.check(repository, self._forbidden(repository))
            self._clone(name).check(repository.folder)
        elif sandboxed:
            sandbox.check_workspace(named, self.hidden)
        return repository

    def _source(self, name: str, named: Path, *, clone: bool | None, goes_on: bool) -> Repository | None:
        if self._is_kept(named.resolve()):
            return repository_discovery.find(named)
        if clone is False or self._is_agents_ground(name, named.resolve()):
            return None
        # Runtimes keep conversations by folder: one that began right in the repository goes on there.
        if goes_on and self._clone(name).record() is None and self._worked_in(name) == named:
            return None
        return repository_discovery.find(named)

    def _is_kept(self, place: Path) -> bool:
        return self.repositories is not None and place.is_relative_to(self.repositories.resolve())

    def _forbidden(self, repository: Repository) -> Sequence[Path]:
        """Return the folders in which a repository must not lie."""
        return () if self._is_kept(repository.folder) else self.hidden

    def _is_agents_ground(self, name: str, place: Path) -> bool:
        """Return whether this is, or lies in, a workspace that Muster made: agents may share one, and it is no
        person's."""
        agents = {name, *(folder.name for folder in self.folder(name).parent.glob("[a-z]*"))}
        grounds = (*self.hidden, *(self.own(agent) for agent in agents))
        return any(place.is_relative_to(ground.resolve()) for ground in grounds)

    def _worked_in(self, name: str) -> Path | None:
        """Return the folder in which the agent was started last."""
        try:
            return Path(AgentSpec.read(self.folder(name) / host_lifecycle.SPEC).workspace)
        except (OSError, ValueError, TypeError):
            return None

    def _clone(self, name: str) -> Clone:
        return Clone(agent=name, place=self.own(name), folder=self.folder(name))

    # --- acting -------------------------------------------------------------------------------------------------

    def settle(self, name: str, named: Path, *, clone: bool | None, sandboxed: bool, goes_on: bool) -> Workspace:
        """Make an agent's workspace, if it is not there.

        Args:
            goes_on: with its conversation.

        Raises:
            FleetError: it cannot be made, or is not what it was.
        """
        repository = self._source(name, named, clone=clone, goes_on=goes_on)
        if repository is not None:
            _check_no_link(named)
            repository_discovery.check(repository, self._forbidden(repository))
            own = self._clone(name)
            readonly = own.prepare(repository, sandboxed=sandboxed)
            told = _TOLD.format(place=own.place, branch=own.branch)
            return Workspace(place=own.place, readonly=readonly, instructions=told)
        if sandboxed:
            _check_no_link(named)
            sandbox.check_workspace(named, self.hidden)
        named.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Workspace(place=named)

    def collect(self, name: str) -> Collected | None:
        """Take over what an agent committed; the same again until it is acknowledged.

        Nothing is taken over into a repository of Muster's own, which other agents see: whoever keeps it decides.

        Raises:
            FleetError: that is not possible.
        """
        own = self._clone(name)
        known = own.record()
        return None if known is not None and self._is_kept(known.source) else own.collect()

    def acknowledge(self, name: str, collected: Collected) -> None:
        """What was collected was told."""
        self._clone(name).acknowledge(collected)

    # --- looking and removing -----------------------------------------------------------------------------------

    def _clone_of(self, name: str, named: Path) -> Clone | None:
        known = (own := self._clone(name)).record()
        return own if known is not None and known.source == named else None

    def place(self, name: str, named: Path) -> Path:
        """Return where an agent works for which `named` was named."""
        own = self._clone_of(name, named)
        return own.place if own is not None else named

    def began_on(self, name: str, named: Path) -> str | None:
        """Return the branch from which an agent's clone was made; None: it is unknown, or there is no clone."""
        own = self._clone_of(name, named)
        known = None if own is None else own.record()
        return None if known is None else known.began_on

    def unsaved(self, name: str, named: Path) -> str | None:
        """Return what of an agent's clone is nowhere else, in words; None: nothing, or there is no clone.

        Raises:
            FleetError: it cannot be looked at.
        """
        own = self._clone_of(name, named)
        if own is None or not own.place.exists():
            return None
        condition = own.inspect()
        return None if condition.clean else condition.sentence()

    def diff(self, name: str, named: Path, *, since: str | None, longest: int) -> AgentDiff:
        """Return what an agent's working tree has that a commit has not; by default the base of its branch.

        Args:
            name: the agent.
            named: the folder that is named for it.
            since: the hash of the commit, or its beginning.
            longest: bytes of the diff that are wanted.

        Raises:
            FleetError: it has no clone, or that cannot be looked at; the message says what to do.
        """
        return change_survey.diff(self._own_clone(name, named), since=since, longest=longest)

    def commits(self, name: str, named: Path, *, most: int) -> AgentCommits:
        """Return the newest commits of an agent's branch since its base, at most so many.

        Raises:
            FleetError: it has no clone, or that cannot be looked at; the message says what to do.
        """
        return change_survey.commits(self._own_clone(name, named), most=most)

    def merge_request(
        self,
        name: str,
        named: Path,
        *,
        profile: SandboxProfile,
        title: str = "",
        into: str | None = None,
        squash: bool = False,
        commit: str | None = None,
    ) -> MergeRequest:
        """Return what is merged of an agent that has, or had, a clone; `fleet.workspace.branch_merge` does it.

        Args:
            name: the agent.
            named: the folder that is named for it.
            profile: that of its sandbox.
            title: what it was asked.
            into: the branch that gets the commits; None: the one from which its clone was made.
            squash: make one commit of them.
            commit: how the hash of its last commit begins; None: any.

        Raises:
            FleetError: it has no clone, and nothing is left of one.
        """
        own = self._clone_of(name, named)
        known = None if own is None else own.record()
        if known is None and ((found := repository_discovery.find(named)) is None or not _has_branch(found, name)):
            self._own_clone(name, named)
        return MergeRequest(
            source=named,
            agent=name,
            folder=self.folder(name),
            title=title,
            began_on=None if known is None else known.began_on,
            into=into,
            squash=squash,
            commit=commit,
            sandbox=MergeSandbox(profile=profile, hidden=self.hidden),
        )

    def _own_clone(self, name: str, named: Path) -> Clone:
        """Return the clone of an agent.

        Raises:
            FleetError: it has none.
        """
        own = self._clone_of(name, named)
        if own is not None and own.place.is_dir():
            return own
        if self._is_agents_ground(name, named.resolve()):
            why = f"It works in {named}, which is no clone that was made for it; other agents may work there too."
        elif repository_discovery.find(named) is None:
            why = f"Its folder {named} is no git repository. Look at its files there."
        elif self._worked_in(name) == named:
            why = f"It works right in {named}, where others may work too. Look there with `git status` and `git diff`."
        else:
            why = (
                f"It has not begun, or its clone was removed when it was over. What it committed is on the branch "
                f"`muster/{name}` in {named}."
            )
        raise FleetError(
            f"{name} has no clone of its own, so Muster cannot tell what it changed. {why}", code="workspace.no_clone"
        )

    def remove(self, name: str, named: Path) -> bool:
        """Delete a clone of which everything is in the person's repository. False: there is none; what is stays.

        Raises:
            NotClean: something of it is nowhere else.
            FleetError: it cannot be looked at, or not be deleted.
        """
        own = self._clone_of(name, named)
        return own is not None and own.remove()

    def release(self, name: str) -> str | None:
        """Delete what Muster made for an agent to work in, unless something of it is nowhere else.

        Returns:
            Why it stays, in words; None: nothing of it is left.

        Raises:
            FleetError: it cannot be looked at, or not be deleted.
        """
        own, place = self._clone(name), self.own(name)
        if own.record() is not None:
            try:
                own.remove()
            except NotClean:
                return f"its clone has {own.inspect().sentence()}"
        elif place.is_symlink() or untrusted_files.occupied(place):
            return f"its workspace {place} is no clone, and may have files that are nowhere else"
        own.clear_parts()
        return None

    def discard(self, name: str, named: Path) -> bool:
        """Delete a workspace that Muster made. False: it lies elsewhere, and stays.

        Raises:
            FleetError: something of it could not be deleted.
        """
        if (own := self._clone_of(name, named)) is not None:
            return own.remove(discard=True)
        place = self.own(name)
        if named not in {place, place.resolve()}:
            return False
        if named.is_symlink() or not untrusted_files.delete(named):
            raise FleetError(
                f"{name} is killed, but its workspace {named} could not be deleted. Look at what is left of it, and "
                "delete it by hand.",
                code="workspace.not_deleted",
            )
        return True


def _has_branch(repository: Repository, name: str) -> bool:
    return repository_refs.commit(repository, f"refs/heads/muster/{name}") is not None


def _check_no_link(named: Path) -> None:
    """An agent that works around this folder may have put a link in its place, to something that is not its own."""
    if named.resolve() != named:
        raise FleetError(
            f"The workspace {named} is a link to {named.resolve()} by now, so the agent was not started. "
            "Find out who made it.",
            code="workspace.forbidden",
        )


def left_behind(repository: Repository) -> str:
    """Return what to say of changes that the person has not committed, which no clone has."""
    count = clones.uncommitted(repository)
    if not count:
        return ""
    files_are = "1 file has" if count == 1 else f"{count} files have"
    return f"{files_are} changes that you have not committed; the agent does not see them."
