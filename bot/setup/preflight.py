"""What a start of Muster will lack: secrets that are missing, and agents that cannot start."""

from __future__ import annotations

from collections.abc import Mapping

from bot.config import loader
from bot.config.checks import connector_checks
from bot.config.loader import Check
from bot.config.paths import Paths
from bot.read_models.fleet import BlockedAgent
from bot.setup import agent_readiness, launch_planner
from bot.setup.blocked_agents import in_words
from bot.setup.doctor.installation import references
from core.secret_references import Unresolved


def missing_secrets(checked: Check, environ: Mapping[str, str]) -> list[str]:
    """Return a line for each connector or account whose secret is missing. Secrets in a keyring are not looked up."""
    lines = []
    for place, reference in references(checked):
        if reference.scheme == "keyring":
            continue
        try:
            reference.resolve(environ)
        except Unresolved as error:
            subject, _, key = place.rpartition(".")
            if place.startswith("connectors."):
                costs = f"The connector {subject.removeprefix('connectors.')} stays down until then."
            elif place.startswith("accounts."):
                costs = "Agents cannot use this account until then."
            elif place.startswith("agents["):
                costs = "This agent cannot start until then."
            else:
                costs = ""
            file = "roster.yaml" if place.startswith("agents[") else "muster.yaml"
            lines.append(f"{file}: {subject}.{key}: {error} {costs}".rstrip())
    return lines


def warnings(paths: Paths, environ: Mapping[str, str], *, agents: bool, in_chat: bool = False) -> list[str]:
    """Return what a start will lack, one line each; empty if nothing is known to be missing.

    Args:
        paths: the installation.
        environ: the environment in which references to secrets are resolved.
        agents: whether the persistent agents are to start.
        in_chat: leave out what the main room says anyway, if the main room is this terminal.
    """
    checked = loader.check(paths)
    if checked.settings is None:
        return []  # the start itself says so
    lines = missing_secrets(checked, environ)
    if not agents or checked.roster is None or checked.roster.breaches:
        return lines
    settings = checked.settings
    planner = launch_planner.planner(paths, settings, environ, with_way=True)
    persistent = [entry for entry in checked.roster.agents if entry.persistent]
    names = [entry.name for entry in persistent]
    found = list(agent_readiness.blocked(planner, names, paths, settings, environ))
    stopped = {each.name for each in found}
    for entry in persistent:
        if entry.name not in stopped and (reason := agent_readiness.no_room(settings, entry.room)) is not None:
            found.append(BlockedAgent(name=entry.name, reason=reason))
    rooms = connector_checks.with_main_rooms(settings.connectors)
    if in_chat and rooms and rooms[0].kind == "terminal":
        found = [each for each in found if not each.refused]
    return [*lines, *in_words(found)]
