"""Why an agent of the roster could not start here: found out before anything is started, and without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bot.config.checks import connector_checks
from bot.config.loader import Settings, unusable_room
from bot.config.paths import Paths
from bot.read_models.fleet import BlockedAgent
from bot.setup import launch_planner, node_version
from bot.setup.runtime_login import holds_login, login_home
from bot.text.errors import UserError
from core.secret_references import Unresolved
from fleet.errors import FleetError
from fleet.launch.launch_plan import LaunchPlan, Planner
from fleet.roster.loader import Roster
from fleet.roster.schema import AgentEntry
from fleet.runtimes import RUNTIMES

#: Maximum number of agents to check: each takes a try of its sandbox.
_CHECKED = 50
#: Environment variables that log a runtime in, if the roster sets one.
_LOGIN_VARIABLES = frozenset(
    {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY"}
)


def of_installation(paths: Paths, settings: Settings, environ: Mapping[str, str], fleet: Roster) -> list[BlockedAgent]:
    """Return the agents of the roster that could not start in an installation that does not run yet."""
    planner = launch_planner.planner(paths, settings, environ, with_way=True)
    names = [entry.name for entry in fleet.agents]
    return list(blocked(planner, names, paths, settings, environ))


def blocked(
    planner: Planner, names: Iterable[str], paths: Paths, settings: Settings, environ: Mapping[str, str]
) -> Iterator[BlockedAgent]:
    """Yield those of the named agents that could not start. Blocks: it tries their sandboxes."""
    for name in list(names)[:_CHECKED]:
        try:
            plan = planner.plan(name, {})
            entry = planner.read_roster().get(name)
        except (FleetError, UserError) as error:
            yield BlockedAgent(name=name, reason=str(error), refused=True)
            continue
        if plan.kind != "container" and (old := node_version.too_old(RUNTIMES[plan.runtime])) is not None:
            yield BlockedAgent(name=name, reason=old)
        elif (reason := _no_access(plan, entry, paths, settings, environ)) is not None:
            yield BlockedAgent(name=name, reason=reason)


def _no_access(
    plan: LaunchPlan, entry: AgentEntry | None, paths: Paths, settings: Settings, environ: Mapping[str, str]
) -> str | None:
    """Return why an agent that starts would reach no model and what to do, or None if it would."""
    for account in [each for names in plan.accounts.values() for each in names[:1]]:
        reference = settings.accounts[account].credential if account in settings.accounts else None
        # A keyring may prompt a person.
        if reference is not None and reference.scheme != "keyring":
            try:
                reference.resolve(environ)
            except Unresolved as error:
                return f"The account {account} has no key. {error}"
    return _no_login(plan, entry, paths, settings)


def no_room(settings: Settings, room: str | None) -> str | None:
    """Return why an agent that starts by itself has no room for its thread, or None if it has one."""
    if room is not None:
        reason = unusable_room(settings, room)
        return None if reason is None else f"Its room {room} in the roster: {reason}"
    if connector_checks.with_main_rooms(settings.connectors):
        return None
    names = [each.name for each in settings.connectors]
    return (
        f"There is no room for its thread. Set `fleet_room` under connectors.{names[0] if names else 'NAME'} in "
        "muster.yaml, or launch it in a chat room."
    )


def _no_login(plan: LaunchPlan, entry: AgentEntry | None, paths: Paths, settings: Settings) -> str | None:
    """Return that a runtime has to use its own login and has none."""
    runtime = RUNTIMES[plan.runtime]
    if runtime.login_file is None or any(
        settings.accounts[name].credential is not None
        for names in plan.accounts.values()
        for name in names
        if name in settings.accounts
    ):
        return None
    if entry is not None and _LOGIN_VARIABLES & set(entry.env):
        return None
    if (plan.model or "").startswith("opencode/"):
        return None  # models of opencode's makers that need no login
    homes = (login_home(paths, runtime.name), paths.agent_folder(plan.name) / "home")
    if any(holds_login(home, runtime) for home in homes):
        return None
    return (
        f"{runtime.title} has no login. Log in with `muster login {runtime.name}`, or give it an account with a "
        "credential in muster.yaml."
    )
