"""Which issues are picked up, for whom, and in which sandbox (pure).

An issue is picked up when one of its assignees is a member of the configured organization, and it has a label
``muster:NAME`` with a role or an agent. What an event says does not count, and neither does the order in which labels
and assignees came: the decision is made from the issue as the forge shows it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from forge.model.references import IssueReference
from forge.model.values import ForgeUser, Issue

TARGET_LABEL = "muster:"
SANDBOX_LABEL = "muster-sandbox:"

#: A name that can be repeated in an issue or a chat room as it is; any other could hold a mention or markup.
_PLAIN = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class PickUp(StrEnum):
    """What happens to an issue."""

    PICK_UP = "pick_up"
    NOT_YET = "not_yet"
    """Nothing happens, and nobody is told."""
    REFUSE = "refuse"
    """It was asked for as it should be, but cannot be done; people are told why."""
    ALREADY_RUNNING = "already_running"


@dataclass(frozen=True, kw_only=True, slots=True)
class PickUpRules:
    """What the configuration says for one repository."""

    organization: str
    targets: frozenset[str]
    """Roles and agents that an issue may name, in lower case."""
    sandboxes: frozenset[str]
    """Sandbox profiles that an issue may name, in lower case."""
    default_sandboxes: tuple[str, ...] = ()
    """The profiles of an issue that names none; empty if it has to name one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PickUpDecision:
    """What happens to an issue, and why."""

    issue: IssueReference
    organization: str
    outcome: PickUp
    reason: str
    """A stable word for programs, such as ``no_member``."""
    sentence: str
    """For the issue and the chat room."""
    target: str | None = None
    """The role or the agent, if it is picked up."""
    sandboxes: tuple[str, ...] = ()
    """Profiles in the order in which they are applied, if it is picked up."""
    assignee: ForgeUser | None = None
    """The member who makes it count, if there is one."""

    def log_fields(self) -> dict[str, str]:
        """Return what the log says of the decision."""
        return {
            "issue": str(self.issue),
            "organization": self.organization,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "target": self.target or "",
            "sandboxes": ",".join(self.sandboxes),
            "assignee": self.assignee.login if self.assignee is not None else "",
        }


def members_to_ask(issue: Issue) -> tuple[ForgeUser, ...]:
    """Return the assignees whose membership decides, in a stable order; none if it would change nothing."""
    if issue.is_pull_request or not issue.is_open or not _names(issue, TARGET_LABEL):
        return ()
    # Gitea's placeholders of deleted users have negative ids.
    people = {user.id: user for user in issue.assignees if user.id > 0}
    return tuple(people[each] for each in sorted(people))


def decide(
    reference: IssueReference,
    issue: Issue,
    rules: PickUpRules,
    *,
    memberships: Mapping[int, bool],
    has_run: bool,
) -> PickUpDecision:
    """Decide what happens to an issue.

    Args:
        reference: the issue's.
        issue: as the forge shows it now.
        rules: of its repository.
        memberships: whether users are members, by id, as the forge said just now. Who is missing is no member.
        has_run: whether a run for the issue is under way, or ended without being asked for again.
    """

    def decision(
        outcome: PickUp,
        reason: str,
        sentence: str,
        *,
        target: str | None = None,
        sandboxes: tuple[str, ...] = (),
        assignee: ForgeUser | None = None,
    ) -> PickUpDecision:
        return PickUpDecision(
            issue=reference,
            organization=rules.organization,
            outcome=outcome,
            reason=reason,
            sentence=sentence,
            target=target,
            sandboxes=sandboxes,
            assignee=assignee,
        )

    if issue.number != reference.number:
        raise ValueError(f"{reference} was decided with issue #{issue.number}.")
    if issue.is_pull_request:
        return decision(PickUp.NOT_YET, "pull_request", f"{reference} is a pull request. Only issues are picked up.")
    if has_run:
        return decision(PickUp.ALREADY_RUNNING, "has_run", f"{reference} has a run already.")
    if not issue.is_open:
        return decision(PickUp.NOT_YET, "closed", f"{reference} is closed. Reopen it first.")
    names = _names(issue, TARGET_LABEL)
    if not names:
        return decision(
            PickUp.NOT_YET, "no_label", f"{reference} has no label {TARGET_LABEL}NAME with a role or an agent."
        )
    assignee = next((user for user in members_to_ask(issue) if memberships.get(user.id) is True), None)
    if assignee is None:
        missing = "Nobody is assigned" if not issue.assignees else "No assignee is a member of the organization"
        return decision(
            PickUp.NOT_YET,
            "no_member",
            f"{missing}: assign {reference} to a member of {rules.organization}.",
        )
    if len(names) > 1:
        return decision(
            PickUp.REFUSE,
            "several_labels",
            f"{reference} has {len(names)} labels that begin with {TARGET_LABEL}. Leave one.",
            assignee=assignee,
        )
    (name,) = names
    if name not in rules.targets:
        known = f"Known are: {_listed(rules.targets)}." if rules.targets else "None is configured."
        return decision(
            PickUp.REFUSE,
            "unknown_target",
            f"The label of {reference} names {_shown(name)}, which is no role or agent here. {known}",
            assignee=assignee,
        )
    wanted = _names(issue, SANDBOX_LABEL)
    sandboxes = wanted or rules.default_sandboxes
    if unknown := [each for each in sandboxes if each not in rules.sandboxes]:
        where = f"A label of {reference}" if wanted else f"The configured default for {reference}"
        known = f"Known are: {_listed(rules.sandboxes)}." if rules.sandboxes else "None is configured."
        return decision(
            PickUp.REFUSE,
            "unknown_sandbox",
            f"{where} names {_shown(unknown[0])}, which is no sandbox profile here. {known}",
            assignee=assignee,
        )
    if not sandboxes:
        return decision(
            PickUp.REFUSE,
            "no_sandbox",
            f"{reference} names no sandbox, and its repository has no default. Add a label {SANDBOX_LABEL}PROFILE. "
            f"Known are: {_listed(rules.sandboxes)}.",
            assignee=assignee,
        )
    return decision(
        PickUp.PICK_UP,
        "picked_up",
        f"{name} works on {reference} for {assignee.login}, in the sandbox {' and '.join(sandboxes)}.",
        target=name,
        sandboxes=sandboxes,
        assignee=assignee,
    )


def _names(issue: Issue, prefix: str) -> tuple[str, ...]:
    """Return the names after a label's prefix: each once, in lower case, in order. Empty names are names, too."""
    found = set()
    for label in issue.labels:
        head, colon, name = label.lower().partition(":")
        if f"{head.strip()}{colon}" == prefix:
            found.add(name.strip())
    return tuple(sorted(found))


def _shown(name: str) -> str:
    return f"`{name}`" if _PLAIN.fullmatch(name) else "something with unusual characters"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
