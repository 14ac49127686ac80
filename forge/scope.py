"""What an agent that works on an issue may read and write at the forge (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.errors import MusterError
from forge.model.references import IssueReference, RepositoryName


class OutsideScope(MusterError):
    """The agent may not reach this issue or pull request."""

    code = "forge.outside_scope"


@dataclass(frozen=True, slots=True)
class IssueScope:
    """The reach of one run. It never changes: a pull request that appears makes a new one."""

    issue: IssueReference
    pull_requests: tuple[int, ...] = ()
    """The numbers of the run's own pull requests, in order."""

    @property
    def repository(self) -> RepositoryName:
        return self.issue.repository

    @property
    def writable(self) -> tuple[int, ...]:
        """The numbers that may be written to: the issue and its pull requests."""
        return (self.issue.number, *self.pull_requests)

    def with_pull_request(self, number: int) -> IssueScope:
        """Return the scope with one more pull request.

        Raises:
            ValueError: the number cannot be a pull request's.
        """
        if number < 1 or number == self.issue.number:
            raise ValueError(f"{self.repository}#{number} cannot be a pull request of {self.issue}.")
        return replace(self, pull_requests=tuple(sorted({*self.pull_requests, number})))

    def check_read(self, target: IssueReference) -> None:
        """Allow reading anything in the repository.

        Raises:
            OutsideScope: the target is in another repository.
        """
        if not self._is_here(target):
            raise OutsideScope(
                f"{target} cannot be read: it is in another repository. Everything in {self.repository} can be read."
            )

    def check_write(self, target: IssueReference) -> None:
        """Allow writing to the issue and its pull requests.

        Raises:
            OutsideScope: the target is another one.
        """
        if not self._is_here(target) or target.number not in self.writable:
            numbers = ", ".join(f"#{number}" for number in self.writable)
            raise OutsideScope(
                f"{target} cannot be written to. This run can write to these in {self.repository}: {numbers}."
            )

    def _is_here(self, target: IssueReference) -> bool:
        return target.repository.is_same(self.repository)
