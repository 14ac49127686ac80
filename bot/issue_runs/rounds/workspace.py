"""The repository that agents' clones are made from, and the clone of one run. Everything here blocks."""

from __future__ import annotations

from dataclasses import dataclass

from bot.issue_runs.forge_link import ForgeLink
from database.queries.forge.issue_runs import IssueRun
from fleet.workspace import Repository, Workspace, Workspaces, sandboxed_git
from fleet.workspace.clone import Clone
from forge.clients.address import ForgeAddress
from forge.model.errors import ForgeAway
from forge.model.references import RepositoryName
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.listing import CommitIdentity
from forge.publishing.mirror import MirrorNotUpdated, RepositoryMirror
from forge.publishing.remote_answers import PushOutcome


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierWork:
    """What a run has at the forge already."""

    place: RepositoryName
    branch: str
    sha: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGround:
    """Where the work of one run lies on this machine and at the forge."""

    link: ForgeLink
    workspaces: Workspaces
    name: RepositoryName
    agent: str
    target: str
    """The role or agent of the roster that the label names."""

    @classmethod
    def of(cls, link: ForgeLink, workspaces: Workspaces, run: IssueRun) -> RunGround:
        """Return that of a run."""
        name = RepositoryName.parse(run.repository)
        return cls(link=link, workspaces=workspaces, name=name, agent=run.agent, target=run.role)

    @property
    def mirror(self) -> RepositoryMirror:
        return RepositoryMirror(folder=self.link.folder, name=self.name)

    @property
    def clone(self) -> Clone:
        return Clone(agent=self.agent, place=self.workspaces.own(self.agent), folder=self.workspaces.folder(self.agent))

    @property
    def identity(self) -> CommitIdentity:
        """As whom the agent commits."""
        pushes = self.link.settings.pushes
        author = pushes.authors.get(self.target, pushes.author)
        if author is None:
            return CommitIdentity(name=self.agent, email=f"{self.agent}@muster.invalid")
        name, _, email = author.rpartition(" <")
        return CommitIdentity(name=name, email=email.removesuffix(">"))

    def remote(self, place: RepositoryName | None = None) -> ForgeRemote:
        """Return the repository at the forge, or another place that its branches are pushed to."""
        settings = self.link.settings
        address = ForgeAddress.parse(settings.address)
        return ForgeRemote(url=address.clone_url(place or self.name), token=self.link.token, ca_file=settings.authority)

    def update(self, branch: str, place: RepositoryName | None = None) -> Repository:
        """Bring a branch of the mirror up to date.

        Args:
            branch: its name.
            place: where it is; None: in the repository.

        Raises:
            ForgeAway: the forge does not respond.
            ForgeError: the branch cannot be fetched.
            FleetError: the mirror cannot be used.
        """
        try:
            return self.mirror.update(self.remote(place), branch)
        except MirrorNotUpdated as error:
            if error.outcome is PushOutcome.AWAY:
                raise ForgeAway(str(error)) from error
            raise

    def prepare(self, branch: str, *, sandboxed: bool, pushed: EarlierWork | None = None) -> str | None:
        """Make the clone of an agent that has not begun; return the commit on which its work begins.

        Args:
            branch: the base.
            sandboxed: whether the agent works in a sandbox.
            pushed: earlier work at the forge. The agent goes on there.

        Raises:
            ForgeError: the repository cannot be fetched.
            FleetError: the clone cannot be made.
        """
        repository = self.update(branch)
        if pushed is not None:
            self.update(pushed.branch, pushed.place)
        made = self.workspaces.settle(self.agent, repository.folder, clone=None, sandboxed=sandboxed, goes_on=False)
        who = self.identity
        _git(made, "config", "user.name", who.name)
        _git(made, "config", "user.email", who.email)
        record = self.clone.record()
        if record is None:
            return None
        if pushed is not None and _git(made, "rev-parse", "--verify", "HEAD") == record.base:
            _git(made, "reset", "--quiet", "--hard", pushed.sha)
        return record.base


def _git(made: Workspace, *arguments: str) -> str:
    """Run git in a clone, in the sandbox: an earlier agent may have worked there."""
    command = sandboxed_git.pinned("-C", str(made.place), *arguments)
    inside = sandboxed_git.inside(command, readonly=made.readonly, writable=(made.place,), cwd=made.place)
    return sandboxed_git.answer(inside, f"Setting up {made.place.name}", timeout_s=120.0)
