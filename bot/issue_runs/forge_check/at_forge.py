"""Checks that ask the forge: the account, the organization, each repository, and one issue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from bot.issue_runs.forge_check.result import ForgeCheckResult
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.pickups import PickUpSource
from core.errors import MusterError
from forge.model.errors import ForgeError, MembershipUnknown
from forge.model.references import IssueReference, RepositoryName
from forge.model.values import ForgeUser
from forge.publishing import ci_secrets, forks
from forge.publishing.branch_names import PREFIX
from forge.targeting import SANDBOX_LABEL, TARGET_LABEL, PickUp, decide, members_to_ask
from forge.webhooks.listener import PATH

#: Scopes of a classic token of GitHub that cover what Muster does.
_GITHUB_SCOPES = ("repo", "read:org")
#: With it, GitHub takes commits of the repository that change workflows and that the fork lacks.
_GITHUB_FORK_SCOPE = "workflow"


@dataclass(frozen=True, slots=True)
class ForgeChecks:
    """The checks of one forge."""

    link: ForgeLink
    source: PickUpSource

    async def account(self) -> AsyncIterator[ForgeCheckResult]:
        """Check address, token and organization."""
        link = self.link
        address, organization = link.settings.address, link.settings.organization
        try:
            facts = await link.whoami()
        except ForgeError as error:
            todo = "Check `forge: url`, `forge: token` and `forge: ca_file` in muster.yaml."
            yield ForgeCheckResult(tried=f"token at {address}", state="missing", found=str(error), todo=todo)
            return
        us = facts.account
        found = f"it belongs to {us.login} (id {us.id}); version {facts.forge_version}"
        yield ForgeCheckResult(tried=f"token at {address}", state="ok", found=found)
        yield self._scopes(facts.scopes)
        tried = f"members of {organization}"
        try:
            is_member = await link.client.is_org_member(organization, us.login)
        except MembershipUnknown as error:
            scope = "read:org (fine-grained: Members: read)" if link.settings.kind == "github" else "read:organization"
            todo = f"Make {us.login} a member of {organization}, and give the token the scope {scope}."
            yield ForgeCheckResult(tried=tried, state="missing", found=str(error), todo=todo)
        except ForgeError as error:
            yield ForgeCheckResult(tried=tried, state="missing", found=str(error), todo="Try again later.")
        else:
            found = f"the forge says whether somebody is a member; {us.login} is {'one' if is_member else 'none'}"
            yield ForgeCheckResult(tried=tried, state="ok", found=found)

    def _scopes(self, scopes: tuple[str, ...] | None) -> ForgeCheckResult:
        if scopes is None:
            needed = "write:issue, write:repository, read:organization and read:user"
            if self.link.settings.kind == "github" and self.link.settings.pushes.fork:
                needed = f"for a fork a classic token, with {', '.join((*_GITHUB_SCOPES, _GITHUB_FORK_SCOPE))}"
            elif self.link.settings.kind == "github":
                needed = "contents, issues and pull requests to write, checks, statuses and members to read"
            return ForgeCheckResult(
                tried="scopes of the token",
                state="note",
                found="the forge does not tell them; the checks below try what they are needed for",
                todo=f"Muster needs: {needed}.",
            )
        needed_scopes = (*_GITHUB_SCOPES, _GITHUB_FORK_SCOPE) if self.link.settings.pushes.fork else _GITHUB_SCOPES
        lacking = [each for each in needed_scopes if each not in scopes and not _covered(each, scopes)]
        if lacking:
            return ForgeCheckResult(
                tried="scopes of the token",
                state="missing",
                found=f"it has {', '.join(scopes) or 'none'}",
                todo=f"Make a token with {', '.join(lacking)}, too.",
            )
        return ForgeCheckResult(tried="scopes of the token", state="ok", found=", ".join(scopes))

    async def authors(self) -> AsyncIterator[ForgeCheckResult]:
        """Name authors of commits that are for nobody."""
        try:
            targets = (await self.source.rules()).targets
        except MusterError:
            return  # The check of labels says why.
        for name in sorted(set(self.link.settings.pushes.authors) - targets):
            todo = "Correct `forge: pushes: authors` in muster.yaml. Names are in lower case."
            yield ForgeCheckResult(
                tried=f"author of {name}", state="note", found="no role or agent has the name", todo=todo
            )

    async def repository(self, name: RepositoryName) -> AsyncIterator[ForgeCheckResult]:
        """Check one repository."""
        link, by_fork = self.link, self.link.settings.pushes.fork
        try:
            facts = await link.client.repository(name)
        except ForgeError as error:
            todo = "Check its name, and give the account read access."
            yield ForgeCheckResult(tried=f"{name}", state="missing", found=str(error), todo=todo)
            return
        if by_fork:
            yield await self._fork(name)
        else:
            yield ForgeCheckResult(
                tried=f"{name}",
                state="ok" if facts.may_push else "missing",
                found=f"the account {'may' if facts.may_push else 'may not'} push to it",
                todo="" if facts.may_push else "Give the account write access, or set `forge: pushes: fork: true`.",
            )
        yield await self._protection(name, facts.default_branch)
        if link.settings.listens:
            yield await self._webhook(name)
        yield await self._labels(name)
        yield await self._labels_to_choose(name)

    def secrets(self) -> ForgeCheckResult:
        """Say which secrets of CI a pushed branch reaches. It holds for all repositories alike."""
        block = self.link.settings
        reached = ci_secrets.reached(block.kind, by_fork=block.pushes.fork)
        return ForgeCheckResult(tried="secrets that a branch reaches", state="note", found=reached)

    async def _fork(self, name: RepositoryName) -> ForgeCheckResult:
        tried = f"{name}: fork"
        try:
            fork = await forks.find(self.link.client, name, (await self.link.whoami()).account.login)
        except ForgeError as error:
            return ForgeCheckResult(tried=tried, state="missing", found=str(error), todo="Until then no run begins.")
        if fork is None:
            todo = "Muster makes it with the first run. Allow the account to fork the repository."
            return ForgeCheckResult(tried=tried, state="note", found="there is none", todo=todo)
        return ForgeCheckResult(tried=tried, state="ok", found=f"the account may push to {fork}")

    async def _protection(self, name: RepositoryName, default: str) -> ForgeCheckResult:
        tried = f"{name}: protected branches"
        try:
            rules = await self.link.client.protected_branches(name)
        except ForgeError as error:
            todo = "Nothing depends on it. Look at the rules at the forge yourself."
            return ForgeCheckResult(tried=tried, state="note", found=str(error), todo=todo)
        hit = [rule for rule in rules if fnmatchcase(f"{PREFIX}1", rule)]
        if hit and not self.link.settings.pushes.fork:
            todo = f"Change the rule, so that branches that begin with {PREFIX} can be pushed."
            return ForgeCheckResult(tried=tried, state="missing", found=f"a rule covers Muster's: {hit[0]}", todo=todo)
        if not any(fnmatchcase(default, rule) for rule in rules):
            todo = f"Protect {default}, so that the token could not push to it even if it were stolen."
            return ForgeCheckResult(tried=tried, state="note", found=f"{default} is not protected", todo=todo)
        return ForgeCheckResult(tried=tried, state="ok", found=", ".join(rules[:10]))

    async def _webhook(self, name: RepositoryName) -> ForgeCheckResult:
        tried = f"{name}: webhook"
        todo = (
            f"Add one at the forge, with your address and {PATH}, the secret of `forge: webhooks: secret`, and the "
            "events of issues, comments, pull requests, reviews and statuses."
        )
        try:
            addresses = await self.link.client.webhooks(name)
        except ForgeError as error:
            todo = f"The account may not see webhooks. Check at the forge that there is one for {PATH}."
            return ForgeCheckResult(tried=tried, state="note", found=str(error), todo=todo)
        ours = [each for each in addresses if urlsplit(each).path.rstrip("/").endswith(PATH)]
        if not ours:
            found = f"{len(addresses)} webhooks, none of them ends with {PATH}"
            return ForgeCheckResult(tried=tried, state="missing", found=found, todo=todo)
        return ForgeCheckResult(tried=tried, state="ok", found=f"events go to {urlsplit(ours[0]).netloc}")

    async def _labels(self, name: RepositoryName) -> ForgeCheckResult:
        tried = f"{name}: labels"
        try:
            issues = await self.link.client.labelled_issues(name)
            rules = await self.source.rules()
        except MusterError as error:
            return ForgeCheckResult(tried=tried, state="missing", found=str(error), todo="Mend that first.")
        used = {label.lower().strip() for issue in issues for label in issue.labels}
        known = {f"{TARGET_LABEL}{each}" for each in rules.targets}
        known |= {f"{SANDBOX_LABEL}{each}" for each in rules.sandboxes}
        ours = sorted(each for each in used if each.startswith((TARGET_LABEL, SANDBOX_LABEL)))
        if wrong := [each for each in ours if each not in known]:
            todo = f"Known are: {', '.join(sorted(known)[:20])}."
            return ForgeCheckResult(tried=tried, state="note", found=f"open issues have {wrong[0]}", todo=todo)
        return ForgeCheckResult(tried=tried, state="ok", found=f"open issues have {', '.join(ours[:10]) or 'none yet'}")

    async def _labels_to_choose(self, name: RepositoryName) -> ForgeCheckResult:
        """Find out for which roles and agents an issue can be labelled."""
        tried = f"{name}: labels to choose from"
        try:
            there = {each.lower().strip() for each in await self.link.client.labels(name)}
            targets = (await self.source.rules()).targets
        except MusterError as error:
            return ForgeCheckResult(tried=tried, state="note", found=str(error), todo="Look at the labels yourself.")
        known = sorted(f"{TARGET_LABEL}{each}" for each in targets)
        if usable := [label for label in known if label in there]:
            return ForgeCheckResult(tried=tried, state="ok", found=", ".join(usable[:20]))
        named = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
        todo = f"Add those that you want to use at the forge. An issue can have one of {named}."
        return ForgeCheckResult(tried=tried, state="note", found="none", todo=todo)

    async def issue(self, at: IssueReference) -> ForgeCheckResult:
        """Decide about one issue, without picking it up. Whether it has a run already is not looked at."""
        tried = f"pick-up of {at}, dry"
        link = self.link
        try:
            issue = await link.client.read_issue(at)
            us = (await link.whoami()).account
            issue = replace(issue, assignees=tuple(each for each in issue.assignees if each.id != us.id))
            memberships = {each.id: await self._is_member(each) for each in members_to_ask(issue)}
            decision = decide(at, issue, await self.source.rules(), memberships=memberships, has_run=False)
        except MusterError as error:
            return ForgeCheckResult(tried=tried, state="missing", found=str(error), todo="Mend that first.")
        problem = self.source.sandbox_problem(decision.sandboxes) if decision.outcome is PickUp.PICK_UP else None
        if problem is not None:
            return ForgeCheckResult(tried=tried, state="missing", found=problem, todo="Name other sandbox profiles.")
        is_ok = decision.outcome is PickUp.PICK_UP
        found = f"it would be picked up: {decision.sentence}" if is_ok else "it would not be picked up"
        return ForgeCheckResult(
            tried=tried, state="ok" if is_ok else "missing", found=found, todo="" if is_ok else decision.sentence
        )

    async def _is_member(self, user: ForgeUser) -> bool:
        return await self.link.client.is_org_member(self.link.settings.organization, user.login)


def _covered(wanted: str, scopes: tuple[str, ...]) -> bool:
    """Return whether a broader scope of GitHub includes one."""
    return wanted == "read:org" and any(each in scopes for each in ("admin:org", "write:org"))
