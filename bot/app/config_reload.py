"""The reload of muster.yaml while Muster runs.

It applies accounts, approval rules, budgets, dispatch, pacing, projects, sandbox profiles, schedules and telemetry.
A file that is invalid, or that the egress rejects, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields, replace

from bot.config import secrets
from bot.config.limits import Budgets
from bot.config.loader import load
from bot.config.projects import is_profile
from bot.config.reloaded import Reloaded
from bot.config.schema import Settings
from bot.reports.services import ReportServices
from bot.setup import launch_planner
from bot.text import markdown
from bot.text.errors import ConfigError, UserError
from budget import amounts
from budget.scope_names import scope_of, shown_scope
from core.errors import MusterError
from egress.errors import EgressRefused

#: Keys that take effect at once. A change of any other key is reported as waiting for a restart.
LIVE = (
    *("accounts", "budgets", "dispatch", "pacing", "projects", "rooms", "sandboxes", "schedules", "telemetry"),
    *("approvals", "topics"),
)
#: Keys whose changes are reported without details.
_WHOLE = {
    "approvals": "rules of approvals",
    "dispatch": "how tasks are dispatched",
    "rooms": "where plain words go in chat rooms (rooms)",
    "schedules": "schedules of reports",
    "pacing": "how spending is spread over time",
    "telemetry": "what is told of this installation, and to whom (telemetry)",
    "topics": "how many topics run at a time (topics)",
}
#: Keys that every load creates again, so that a difference does not mean a change.
_MADE = frozenset({"warnings", "broken", "digest"})


async def reload(services: ReportServices) -> Reloaded:
    """Read muster.yaml, apply the keys that can change at once, and push them to the egress."""
    old: Settings = services.settings
    try:
        new = await asyncio.to_thread(load, services.paths)
    except ConfigError as error:
        return Reloaded(problem=str(error))
    # Agents are told the timeout at their start.
    timeout = {"timeout": old.approvals.timeout}
    late = ("approvals.timeout",) if new.approvals.timeout != old.approvals.timeout else ()
    new = replace(new, approvals=new.approvals.model_copy(update=timeout))
    changed = tuple(phrase for key in LIVE for phrase in _differences(key, getattr(old, key), getattr(new, key)))
    keys = (each.name for each in fields(new) if each.name not in LIVE and each.name not in _MADE)
    waiting = (*late, *(key for key in keys if getattr(old, key) != getattr(new, key)))
    if not changed:
        return Reloaded(waiting=waiting)
    taken = replace(old, digest=new.digest, **{key: getattr(new, key) for key in LIVE})
    # New secrets must be masked before they can be used. In a thread, because a keyring may prompt a person.
    services.redact.learn(await asyncio.to_thread(secrets.secrets_of, taken, services.environ))
    services.settings = taken
    services.pace.renew()
    try:
        notes = await _tell(services)
    except EgressRefused as error:
        services.settings = old
        services.pace.renew()
        return Reloaded(waiting=waiting, problem=str(error))
    await asyncio.to_thread(launch_planner.take_up, services.planner, taken, services.environ)
    services.pace.tell()
    services.agents.rules_changed()
    notes += await _hear(services, old)
    return Reloaded(changed=changed, waiting=waiting, notes=(*notes, *_missing(services)))


async def _hear(services: ReportServices, old: Settings) -> list[str]:
    """Hear the rooms of new projects, and return notes about those that cannot be heard."""
    before = {each.room for each in old.projects.values()}
    notes = []
    for each in services.settings.projects.values():
        if each.room is not None and each.room not in before:
            try:
                await services.hear_room(each.room)
            except UserError as error:
                notes.append(f"{error} When that is done, restart Muster to have the room heard.")
    return notes


async def _tell(services: ReportServices) -> list[str]:
    """Push the settings to the egress if it runs, and return notes if it does not answer.

    Raises:
        EgressRefused: it rejects these settings.
    """
    if services.egress_client is None:
        return []
    try:
        if await services.egress_client.source.find() is not None:
            await services.egress_client.ensure()
    except EgressRefused:
        raise
    except MusterError:
        return [
            "The egress does not answer now. The change takes effect once it answers; until then, the earlier "
            "settings apply."
        ]
    return []


def _missing(services: ReportServices) -> list[str]:
    """Return notes about account variables that were missing from the environment when this process started."""
    names = {
        account.credential.name: name
        for name, account in services.settings.accounts.items()
        if account.credential is not None
        and account.credential.scheme == "env"
        and not services.environ.get(account.credential.name, "").strip()
    }
    return [
        f"The account {name} has its key in {markdown.code(variable)}, which was not set when Muster was started. "
        "Set it, then restart Muster."
        for variable, name in sorted(names.items())
    ]


def _budgets(old: Budgets, new: Budgets) -> list[str]:
    before, after = _limits(old), _limits(new)
    told = [
        f"budget of {markdown.code(shown_scope(scope))} {after.get(scope) or 'gone'}"
        + (f" (it was {before[scope]})" if scope in before and scope in after else "")
        for scope in sorted(before.keys() | after.keys())
        if before.get(scope) != after.get(scope)
    ]
    return [*told, *(["weights of budgets"] if old.weights != new.weights else [])]


def _limits(budgets: Budgets) -> dict[str, str]:
    """Return the descriptions of all limits by scope, as people write it."""
    found: dict[str, list[str]] = {}
    for kind, limits in (("allowance", budgets.allowances()), ("pool", budgets.pools())):
        for scope, limit in limits:
            what = f"{amounts.amount(limit.amount, limit.unit)}{amounts.per(limit.window)}"
            if limit.unit == "share":
                what = f"{amounts.percent(limit.amount)} of the window {limit.window}" + (
                    f" of {limit.of}" if limit.of else ""
                )
            words = f"{what}, then {limit.policy}"
            found.setdefault(scope_of(kind, scope), []).append(words)
    return {scope: " and ".join(words) for scope, words in found.items()}


def _differences(key: str, old: object, new: object) -> list[str]:
    if old == new:
        return []
    if key in _WHOLE:
        return [_WHOLE[key]]
    if isinstance(old, Budgets) and isinstance(new, Budgets):
        return _budgets(old, new)
    before: Mapping[str, object] = old if isinstance(old, dict) else {}
    after: Mapping[str, object] = new if isinstance(new, dict) else {}
    if key == "sandboxes":  # a project's own profile changes with the project
        before, after = (
            {name: each for name, each in some.items() if not is_profile(name)} for some in (before, after)
        )
    word = {"accounts": "account", "projects": "project", "sandboxes": "sandbox profile"}[key]
    later = {
        "projects": " (applies to topics that begin from now on)",
        "sandboxes": " (routes, mounts and variables apply from an agent's next start)",
    }.get(key, "")
    how = {
        "new": sorted(set(after) - set(before)),
        "gone": sorted(set(before) - set(after)),
        "changed": sorted(name for name in set(before) & set(after) if before[name] != after[name]),
    }
    return [
        f"{word}{'s' if len(names) > 1 else ''} {', '.join(map(markdown.code, names))} {what}{later}"
        for what, names in how.items()
        if names
    ]
