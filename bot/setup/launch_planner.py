"""The planner of an installation's agents, created from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot.config.loader import Settings
from bot.config.paths import Paths
from core.errors import MusterError
from fleet.launch.launch_plan import LaunchDefaults, Planner
from fleet.launch.model_access import ModelAccount
from fleet.sandbox.profiles import merged


def planner(paths: Paths, settings: Settings, environ: Mapping[str, str], *, with_way: bool) -> Planner:
    """Return the planner of an installation's agents.

    Args:
        paths: the installation.
        settings: the configuration.
        environ: the environment in which references to secrets are resolved.
        with_way: give agents outbound access, as in `Planner.with_way`.
    """
    return Planner(
        folder_of=paths.agent_folder,
        workspace_of=paths.workspace,
        roster=paths.roster_yaml,
        hidden=paths.private_folders(),
        repositories=paths.repositories,
        accounts=_accounts(settings, environ),
        defaults=_defaults(settings),
        profiles=dict(merged({name: profile.written() for name, profile in settings.sandboxes.items()})),
        with_way=with_way,
    )


def take_up(planner: Planner, settings: Settings, environ: Mapping[str, str]) -> None:
    """Apply new accounts and sandbox profiles to `planner`. Running agents keep their launch specs."""
    profiles = merged({name: profile.written() for name, profile in settings.sandboxes.items()})
    for held, now in ((planner.accounts, _accounts(settings, environ)), (planner.profiles, profiles)):
        assert isinstance(held, dict)
        # Updated in place, so that another thread always finds the names that stay.
        held.update(now)
        for name in [name for name in held if name not in now]:
            del held[name]


def _accounts(settings: Settings, environ: Mapping[str, str]) -> Mapping[str, ModelAccount]:
    def secret(name: str) -> Callable[[], str | None]:
        credential = settings.accounts[name].credential
        return lambda: None if credential is None else credential.resolve(environ)

    def is_token(name: str) -> bool:
        """Return whether it is a subscription token, which the provider's program recognizes by its prefix."""
        try:
            return (secret(name)() or "").startswith("sk-ant-oat")
        except MusterError:
            return False

    return {
        name: ModelAccount(
            name=name,
            provider=account.provider,
            base_url=account.base_url,
            secret=secret(name),
            has_credential=account.credential is not None,
            oauth=account.provider == "anthropic" and is_token(name),
            passthrough=account.passthrough,
            serves=account.serves.fits,
        )
        for name, account in settings.accounts.items()
    }


def _defaults(settings: Settings) -> LaunchDefaults:
    return LaunchDefaults(
        runtime=settings.agents.runtime,
        model=settings.agents.model,
        sandbox=settings.agents.sandbox,
        workspaces=settings.agents.workspaces,
        initialize_timeout_s=settings.agents.initialize_timeout,
        heartbeat_s=settings.agents.heartbeat,
        permission_timeout_s=settings.approvals.timeout,
        log_bytes=settings.retention.logs,
    )
