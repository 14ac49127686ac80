"""Checks that the names in the budgets, accounts and profiles of muster.yaml exist and fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bot.config import projects
from bot.config.limits import LimitBlock
from bot.config.paths import Paths
from bot.config.schema import MusterFile
from budget import amounts
from core.validation_errors import suggestion, there_are
from core.yaml_loader import YamlDocument
from egress.provider_endpoints import PROVIDERS
from fleet import roles
from fleet.name_rules import is_agent_name
from fleet.sandbox import profiles
from fleet.sandbox.profiles import ProfileProblem

#: The number of existing agents that a message about an unknown agent lists.
_LISTED = 20


def check(document: YamlDocument, raw: Mapping[str, Any], known: MusterFile | None, paths: Paths) -> None:
    """Report to the document each name that refers to nothing.

    Args:
        document: the file.
        raw: the contents of the file.
        known: the validated contents, or None if they are not valid.
        paths: the folders of the installation, with the operator's own roles.
    """
    named: dict[str, Sequence[str]] = {
        "accounts": list(_block(raw, "accounts")),
        "providers": list(PROVIDERS),
        "profiles": [*profiles.BUILT_IN, *_block(raw, "sandboxes")],
    }
    served = [
        (("accounts", name, "serves", "roles", at), role)
        for name, account in _block(raw, "accounts").items()
        for at, role in enumerate(_words(account, "serves", "roles"))
    ]
    at_once = _block(raw, "dispatch", "at_once", "roles")
    if served or at_once or _block(raw, "budgets", "roles") or _block(raw, "approvals", "roles"):
        named["roles"] = sorted(roles.library(paths.roles).names)
        for role in at_once:
            if role not in named["roles"]:
                document.report(("dispatch", "at_once", "roles", role), _none(role, named["roles"]))
        for loc, role in served:
            if role not in named["roles"]:
                document.report(loc, _none(role, named["roles"]))
    for block, there in named.items():
        for name in _block(raw, "budgets", block):
            if name not in there:
                document.report(("budgets", block, name), _none(name, there))
    default = _block(raw, "agents").get("sandbox")
    if isinstance(default, str) and default not in named["profiles"]:
        document.report(("agents", "sandbox"), profiles.unknown(default, named["profiles"]))
    of_runs = _block(raw, "forge").get("sandbox")
    if isinstance(of_runs, str) and of_runs not in named["profiles"]:
        document.report(("forge", "sandbox"), profiles.unknown(of_runs, named["profiles"]))
    for role in _block(raw, "approvals", "roles"):
        if role not in named["roles"]:
            document.report(("approvals", "roles", role), _none(role, named["roles"]))
    for name in _block(raw, "approvals", "agents"):
        if not is_agent_name(name):
            document.report(("approvals", "agents", name), "not a name for an agent, such as coder0.")
    for project, block in _block(raw, "projects").items():
        sandbox = block.get("sandbox") if isinstance(block, dict) else None
        if isinstance(sandbox, str) and sandbox not in named["profiles"]:
            document.report(("projects", project, "sandbox"), profiles.unknown(sandbox, named["profiles"]))
        of_topics = block.get("role") if isinstance(block, dict) else None
        if isinstance(of_topics, str) and of_topics not in (there := sorted(roles.library(paths.roles).names)):
            document.report(("projects", project, "role"), _none(of_topics, there))
    for name in _block(raw, "budgets", "agents"):
        if not is_agent_name(name):
            document.report(("budgets", "agents", name), "not a name for an agent, such as coder0.")
    if known is not None:
        try:
            profiles.merged({name: profile.written() for name, profile in known.sandboxes.items()})
        except ProfileProblem as problem:
            key = () if problem.key == "name" else (problem.key,)
            document.report(("sandboxes", problem.profile, *key), problem.message)
        _check_shares(document, raw, known)
        _check_twice(document, known)


def not_in_roster(document: YamlDocument, agents: Sequence[str]) -> list[str]:
    """Return a warning for each budget of an agent outside the roster. Such an agent may still be launched."""
    return [
        str(
            document.problem(
                ("budgets", "agents", name),
                f"the roster has no agent of this name.{suggestion(name, agents)} "
                f"{there_are(agents[:_LISTED], ', ...' if len(agents) > _LISTED else '')}. It applies once an agent "
                f"of this name is launched.",
            )
        )
        for name in _block(document.value, "budgets", "agents")
        if name not in agents
    ]


def _check_shares(document: YamlDocument, raw: Mapping[str, Any], known: MusterFile) -> None:
    """Report shares of windows that do not exist."""
    for loc, limit, own in _limits(known):
        if limit.share is None:
            continue
        # A single limit may be written without a list.
        at = loc if isinstance(_at(raw, loc[:-1]), list) else loc[:-1]
        of = limit.of or own
        if of is None:
            document.report(at, "a share of which account? Write it beside it, like of: main.")
            continue
        if own is not None and of != own:
            document.report((*at, "of"), f"a share for the account {own} is of its own window. Leave it out.")
            continue
        account = known.accounts.get(of)
        if account is None:
            document.report((*at, "of"), _none(of, list(known.accounts)))
        elif account.kind != "subscription":
            document.report(
                (*at, "of") if limit.of else at,
                f"the account {of} is an api_key and has no windows. Write tokens or usd, or give the account "
                "kind: subscription.",
            )
        elif own is not None and limit.share >= 1:
            document.report(at, "all of its own window is no limit. Write a smaller share, or leave it out.")
        elif account.windows and limit.window not in (names := [each.name for each in account.windows]):
            document.report(
                (*at, "window"),
                f"the account {of} has no window {limit.window!r}.{suggestion(str(limit.window), names)} "
                f"{there_are(names)}.",
            )


def _check_twice(document: YamlDocument, known: MusterFile) -> None:
    """Report a second limit of a scope in the same unit and window, since only the lower one could matter."""
    accounts = (
        (("accounts", name, "limit", at), limit, name)
        for name, account in known.accounts.items()
        for at, limit in enumerate(account.limit)
    )
    first: dict[tuple[object, ...], LimitBlock] = {}
    for loc, limit, _ in (*_limits(known), *accounts):
        found = first.setdefault((loc[:-1], limit.unit, limit.window, limit.of), limit)
        if found is not limit:
            what, window = amounts.amount(found.amount, found.unit), limit.window or "no window"
            document.report(
                loc, f"a second limit in {amounts.UNITS[limit.unit]} for {window}; the first is {what}. Keep one."
            )


def _limits(known: MusterFile) -> Iterator[tuple[tuple[str | int, ...], LimitBlock, str | None]]:
    """Yield each limit with its place in the file and, for a pool of an account, the account."""
    budgets = known.budgets
    for key, limits in (("agent", budgets.agent), ("host", budgets.host)):
        for at, limit in enumerate(limits):
            yield ("budgets", key, at), limit, None
    for key in ("agents", "profiles", "roles", "providers", "accounts"):
        for name, limits in getattr(budgets, key).items():
            for at, limit in enumerate(limits):
                yield ("budgets", key, name, at), limit, name if key == "accounts" else None
    for name, profile in known.sandboxes.items():
        for key, limits in (("allowance", profile.allowance), ("pool", profile.pool)):
            for at, limit in enumerate(limits):
                yield ("sandboxes", name, key, at), limit, None
    for place, limit in projects.limits(known.projects):
        yield place, limit, None


def _none(name: str, there: Sequence[str]) -> str:
    return f"there is none of this name.{suggestion(name, there)} {there_are(there)}."


def _at(raw: Any, loc: Sequence[str | int]) -> Any:
    for key in loc:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw


def _block(raw: Any, *keys: str) -> Mapping[str, Any]:
    found = _at(raw, keys)
    return found if isinstance(found, dict) else {}


def _words(raw: Any, *keys: str) -> list[str]:
    found = _at(raw, keys)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
