"""The agents of the roster: whether they could start, and whether providers take the keys of their accounts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from bot.config.loader import Check
from bot.config.paths import Paths
from bot.setup import account_check, agent_readiness
from bot.setup.doctor.finding import DoctorFinding

#: Names in a finding; of the others, only the number is given.
_NAMED = 6


def examine(checked: Check, paths: Paths, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    if checked.settings is None or checked.roster is None or not checked.roster.agents:
        return
    names = [entry.name for entry in checked.roster.agents]
    found = agent_readiness.of_installation(paths, checked.settings, environ, checked.roster)
    if not found:
        yield DoctorFinding(name="agents", state="ok", found=f"all {len(names)} of the roster can start")
        return
    stopped = {each.name for each in found}
    able = [name for name in names if name not in stopped]
    for reason, each in groupby(sorted(found, key=lambda one: one.reason), key=lambda one: one.reason):
        those = [one.name for one in each]
        more = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
        yield DoctorFinding(
            name="agents",
            state="wrong",
            found=f"{', '.join(those[:_NAMED])}{more} cannot start",
            costs="No agent of the roster can start." if not able else "The other agents of the roster can start.",
            way=reason,
        )


def accounts(checked: Check, environ: Mapping[str, str]) -> Iterator[DoctorFinding]:
    """Ask the providers whether they take the accounts' keys. Costs no tokens."""
    for name, account in (checked.settings.accounts if checked.settings else {}).items():
        if account.credential is None:
            continue
        told = account_check.check(account.provider, account.credential, environ, base_url=account.base_url)
        title = f"accounts.{name} log-in"
        if told.accepted is None:
            if told.answered is not None:
                yield DoctorFinding(
                    name=title,
                    state="unknown",
                    found=f"could not check the key: {told.answered}",
                    way="Run muster doctor again once the provider answers.",
                )
        elif told.accepted:
            yield DoctorFinding(name=title, state="ok", found=told.answered or "accepted")
        else:
            yield DoctorFinding(
                name=title,
                state="wrong",
                found=told.answered or "refused",
                costs="Agents that use this account reach no model.",
                way=f"Put a valid key where {account.credential} says.",
            )
