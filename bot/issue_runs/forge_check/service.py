"""All checks of the configured forge, one after the other."""

from __future__ import annotations

from collections.abc import Mapping

from bot.config.checks.connector_checks import with_main_rooms
from bot.config.forge import extra
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.issue_runs.forge_check import here
from bot.issue_runs.forge_check.at_forge import ForgeChecks
from bot.issue_runs.forge_check.result import ForgeCheckResult
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.pickups import Configured
from bot.setup import launch_planner
from core.errors import MusterError
from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.opening import open_client
from forge.clients.retries import HttpLimits
from forge.model.references import IssueReference


async def check(
    paths: Paths, settings: Settings, environ: Mapping[str, str], *, issue: IssueReference | None = None
) -> list[ForgeCheckResult]:
    """Run all checks.

    Args:
        paths: the installation.
        settings: the configuration.
        environ: the environment in which references to secrets are resolved.
        issue: an issue to decide about, without picking it up.
    """
    block = settings.forge
    if block is None:
        todo = "Add the block `forge:`; docs/how-to/forge.md says how."
        return [ForgeCheckResult(tried="muster.yaml", state="missing", found="it names no forge", todo=todo)]
    planner = launch_planner.planner(paths, settings, environ, with_way=False)
    kinds = {name: profile.kind for name, profile in planner.profiles.items()}
    rooms = [each.name for each in with_main_rooms(settings.connectors)]
    found = [here.installed(extra.lacking()), here.room(rooms), here.default_sandbox(block, kinds)]
    found.append(here.approvals(settings.approvals))
    if block.listens:
        found.append(await here.webhook(block, environ))
    try:
        address = ForgeAddress.parse(block.address)
        token = block.token.resolve(environ)
        options = HttpOptions(limits=HttpLimits(request_s=10.0, attempts=2))
        client = open_client(block.kind, address, token, ca_file=block.authority, options=options)
    except (MusterError, ValueError) as error:
        todo = "Check `forge: token`, `forge: url` and `forge: ca_file` in muster.yaml."
        return [*found, ForgeCheckResult(tried="token", state="missing", found=str(error), todo=todo)]
    link = ForgeLink(block, address.host, client, token, b"", paths.state)
    checks = ForgeChecks(link, Configured(planner, link))
    try:
        found += [each async for each in checks.account()]
        if any(each.tried.startswith("token at") and each.state == "missing" for each in found):
            return found
        found += [each async for each in checks.authors()]
        for name in link.repositories:
            found += [each async for each in checks.repository(name)]
        found.append(checks.secrets())
        if issue is not None:
            found.append(await checks.issue(issue) if _is_configured(link, issue) else _elsewhere(issue))
    finally:
        await client.close()
    return found


def _is_configured(link: ForgeLink, issue: IssueReference) -> bool:
    return link.configured(str(issue.repository)) is not None


def _elsewhere(issue: IssueReference) -> ForgeCheckResult:
    found = f"{issue.repository} is no repository of `forge: repositories`"
    todo = f"Add {issue.repository} there, if its issues are to be picked up."
    return ForgeCheckResult(tried=f"pick-up of {issue}, dry", state="missing", found=found, todo=todo)
