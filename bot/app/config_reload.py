"""Taking up what muster.yaml says now, of what can change while Muster runs: accounts, budgets, sandbox profiles,
schedules, telemetry.

A file that is not valid, or that the egress does not take, changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from bot.app import planner
from bot.config import secrets
from bot.config.limits import Budgets
from bot.config.loader import load
from bot.config.reloaded import Reloaded
from bot.egress_client.settings_push import scope_of
from bot.text import markdown
from bot.text.errors import ConfigError
from budget import amounts
from core.errors import MusterError
from egress.errors import EgressRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.config.schema import Settings
    from bot.reports.services import ReportServices

#: What is taken up at once; of all other keys it is said that they wait for a restart.
LIVE = ("accounts", "budgets", "dispatch", "pacing", "sandboxes", "schedules", "telemetry")
#: Of these it is told that they changed, and not in what.
_WHOLE = {
    "dispatch": "how tasks are dispatched",
    "schedules": "schedules of reports",
    "pacing": "how spending is spread over time",
    "telemetry": "what is told of this installation, and to whom (telemetry)",
}
#: Of these it is no news that they are made again by each reading.
_MADE = frozenset({"warnings", "broken"})


async def reload(services: ReportServices) -> Reloaded:
    """Read muster.yaml, take up what can be, and tell the egress."""
    old: Settings = services.settings
    try:
        new = await asyncio.to_thread(load, services.paths)
    except ConfigError as error:
        return Reloaded(problem=str(error))
    changed = tuple(phrase for key in LIVE for phrase in _differences(key, getattr(old, key), getattr(new, key)))
    keys = (each.name for each in fields(new) if each.name not in LIVE and each.name not in _MADE)
    waiting = tuple(key for key in keys if getattr(old, key) != getattr(new, key))
    if not changed:
        return Reloaded(waiting=waiting)
    taken = replace(old, **{key: getattr(new, key) for key in LIVE})
    # Before anybody can use them: what is not known to be a secret is not masked. A keyring may have someone asked.
    services.redact.learn(await asyncio.to_thread(secrets.secrets_of, taken, services.environ))
    services.settings = taken
    services.pace.renew()
    try:
        notes = await _tell(services)
    except EgressRefused as error:
        services.settings = old
        services.pace.renew()
        return Reloaded(waiting=waiting, problem=str(error))
    await asyncio.to_thread(planner.take_up, services.planner, taken, services.environ)
    services.pace.tell()
    return Reloaded(changed=changed, waiting=waiting, notes=(*notes, *_missing(services)))


async def _tell(services: ReportServices) -> list[str]:
    """Tell the egress, if it runs. What to say where it does not hear of it now.

    Raises:
        EgressRefused: it does not work with these.
    """
    if services.outlet is None:
        return []
    try:
        if await services.outlet.source.find() is not None:
            await services.outlet.ensure()
    except EgressRefused:
        raise
    except MusterError:
        return ["The egress does not answer now; it is told as soon as it does, and until then what held before holds."]
    return []


def _missing(services: ReportServices) -> list[str]:
    """Variables that accounts refer to and this process does not have: it got its environment when it was started."""
    names = {
        account.credential.name: name
        for name, account in services.settings.accounts.items()
        if account.credential is not None
        and account.credential.scheme == "env"
        and not services.environ.get(account.credential.name, "").strip()
    }
    return [
        f"The account {name} has its key in {markdown.code(variable)}, which was not set when Muster was started. "
        "Set it, and start Muster again."
        for variable, name in sorted(names.items())
    ]


def _budgets(old: Budgets, new: Budgets) -> list[str]:
    before, after = _limits(old), _limits(new)
    told = [
        f"budget of {markdown.code(scope)} {after.get(scope) or 'gone'}"
        + (f" (it was {before[scope]})" if scope in before and scope in after else "")
        for scope in sorted(before.keys() | after.keys())
        if before.get(scope) != after.get(scope)
    ]
    return [*told, *(["weights of budgets"] if old.weights != new.weights else [])]


def _limits(budgets: Budgets) -> dict[str, str]:
    """By scope, as people write it, all its limits in words."""
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
    word = {"accounts": "account", "sandboxes": "sandbox profile"}[key]
    later = "" if key == "accounts" else " (routes, mounts and variables from an agent's next start on)"
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
