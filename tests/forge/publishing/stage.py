"""A forge with a repository, Muster's mirror of it, and an agent's clone, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.workspace import Repository
from forge.model.references import RepositoryName
from forge.publishing import incoming, push
from forge.publishing.branch_review import BranchReview, review
from forge.publishing.findings import FindingKind
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.incoming import IncomingBounds, IncomingBranch
from forge.publishing.listing import BranchListing, CommitIdentity
from forge.publishing.mirror import RepositoryMirror
from forge.publishing.push import PushTarget
from forge.publishing.remote_answers import PushResult
from forge.publishing.rules import PublishingRules
from forge.publishing.secret_scan import ScanSettings
from tests.fleet.workspace.repository import Ground
from tests.forge.publishing.git_server import TOKEN, GitServer

AGENT = CommitIdentity(name="coder0", email="coder0@muster.invalid")
BRANCH = "muster/issue-17-fix-it"
SCAN = ScanSettings(key=b"0123456789abcdef")
#: A key that looks real, in two halves, so that no scanner takes this file for a leak.
SECRET = "ghp_" + "Zx9" * 12


def checked(branch: IncomingBranch) -> BranchReview:
    """What a review of ordinary work says, without the time that it takes."""
    listing = BranchListing(base=branch.base, tip=branch.tip, descends=True, commits=())
    return BranchReview(listing=listing, findings=())


class Stage:
    """The parts from an agent's clone to the forge."""

    def __init__(self, folder: Path, server: GitServer, *, ca_file: Path | None = None) -> None:
        self.folder = folder
        self.server = server
        self.ca_file = ca_file
        self.at_forge = server.repository()
        self.ground = Ground(folder / "machine").begin()
        self.publish_base()
        self.mirror = RepositoryMirror(folder=folder / "state" / "mirrors", name=RepositoryName("owner", "repo"))
        self.repository: Repository = self.mirror.update(self.remote(), "main")
        self.base = self.forge_commit("main")
        self.ground.prepare(self.mirror.place)

    def publish_base(self) -> None:
        """Push what the person has to the forge, past its HTTP."""
        self.ground.git("push", "--quiet", str(self.at_forge), "main:main")

    def remote(self, *, token: str = TOKEN, url: str | None = None, timeout_s: float = 60.0) -> ForgeRemote:
        return ForgeRemote(url=url or self.server.url(), token=token, timeout_s=timeout_s, ca_file=self.ca_file)

    def forge_commit(self, branch: str) -> str:
        """The commit of a branch at the forge; empty if there is none."""
        listed = self.ground.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", cwd=self.at_forge)
        return listed.strip()

    @contextmanager
    def incoming(
        self, bounds: IncomingBounds | None = None, given_up: Callable[[], bool] = lambda: False
    ) -> Iterator[IncomingBranch]:
        with incoming.opened(
            self.folder / "state" / "incoming" / "coder0",
            self.ground.clone,
            self.repository,
            self.base,
            bounds=bounds,
            given_up=given_up,
        ) as branch:
            assert branch is not None
            yield branch

    def review(self, rules: PublishingRules | None = None, scan: ScanSettings = SCAN) -> BranchReview:
        with self.incoming() as branch:
            return review(branch, rules or PublishingRules(identity=AGENT, issue=17), scan)

    def kinds(self, rules: PublishingRules | None = None) -> set[FindingKind]:
        return {finding.kind for finding in self.review(rules).findings}

    def push(self, *, last: str | None = None, remote: ForgeRemote | None = None, branch: str = BRANCH) -> PushResult:
        target = PushTarget(remote=remote or self.remote(), branch=branch, last_pushed=last, default_branch="main")
        with self.incoming() as branch_of_agent:
            return push.push(branch_of_agent, checked(branch_of_agent), target)

    def agent(self, script: str) -> str:
        return self.ground.agent(script)

    def commits(self, script: str, message: str = "Work.") -> str:
        """The agent does something and commits it all."""
        return self.agent(f"{script}\ngit add -A\ngit commit -qm '{message}'\ngit rev-parse HEAD")
