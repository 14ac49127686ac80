"""Issues of a forge: what they share, and their stages. Nothing of it is loaded unless muster.yaml has the block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.app.stages import Stage
from bot.config.forge import extra
from bot.issue_runs.forge_link import ForgeLink
from bot.reports.services import ReportServices
from bot.text.errors import UserError
from core.signing.signing_key import SigningKey
from scheduler.jobs import Job

if TYPE_CHECKING:
    from bot.issue_runs.rounds.service import Rounds
    from database.queries.forge.forge_orders import ForgeOrder
    from forge.runs.order_book import Act, ActAgain, Acted


def make(services: ReportServices) -> None:
    """Create `services.forge` and what plays the rounds, if muster.yaml has a forge.

    Raises:
        MusterError: the extra is not installed, or the token, `ca_file` or the signing key cannot be read.
    """
    if services.settings.forge is None:
        return
    if extra.lacking():
        raise UserError(
            "Issues cannot become pull requests, because the extra forge is not installed. "
            f"{extra.INSTALL}, or remove forge from muster.yaml.",
            code="forge.not_installed",
        )
    from bot.issue_runs.rounds.decisions import IssueRunOwner

    services.forge = link = _link(services)
    services.rounds = _rounds(services, link)
    services.orders = services.rounds.book
    services.run_owner = IssueRunOwner(services)


def jobs(services: ReportServices) -> tuple[Job, ...]:
    """Return the periodic jobs; none without a forge."""
    if services.forge is None:
        return ()
    from bot.issue_runs.rounds.service import Rounds

    rounds = services.rounds
    assert isinstance(rounds, Rounds)
    return (Job("commits of issues", 3600.0, rounds.forget_commits),)


def stages(services: ReportServices) -> list[Stage]:
    """Return the stages in order; none without a forge."""
    link = services.forge
    if link is None:
        return []
    from bot.app.wiring import forge_intake
    from bot.issue_runs.rounds.service import Rounds

    rounds = services.rounds
    assert isinstance(rounds, Rounds)
    parts = forge_intake.make(services, link, rounds.book.wake)
    return [
        Stage("forge client", stop=link.client.close),
        Stage("rounds", run=rounds.run),
        *parts.stages(),
    ]


def _link(services: ReportServices) -> ForgeLink:
    from forge.clients.address import ForgeAddress
    from forge.clients.opening import open_client

    block = services.settings.forge
    assert block is not None
    address = ForgeAddress.parse(block.address)
    token = block.token.resolve(services.environ)
    key = SigningKey.at(services.paths.signing_key)
    return ForgeLink(
        settings=block,
        host=address.host,
        client=open_client(block.kind, address, token, ca_file=block.authority),
        token=token,
        marker_secret=key.derived("markers of posts"),
        folder=services.paths.repositories / address.host.replace(":", "-"),
    )


def _rounds(services: ReportServices, link: ForgeLink) -> Rounds:
    from bot.issue_runs.rounds.posting_steps import RecordStep
    from bot.issue_runs.rounds.publish_step import PublishStep
    from bot.issue_runs.rounds.round_state import RoundContext
    from bot.issue_runs.rounds.service import Rounds

    context = RoundContext(services, link)
    scan_key = SigningKey.at(services.paths.signing_key).derived("marks of secrets")
    return Rounds(
        round=context,
        publish=PublishStep(context, scan_key),
        record=RecordStep(context, services.paths.signing_key),
        other=_other(services, link),
    )


def _other(services: ReportServices, link: ForgeLink) -> Act:
    """Return what acts on orders that belong to no round: agents' writes, and Muster's own notices."""
    from bot.issue_runs.agent_tools import write_order
    from bot.issue_runs.agent_tools.writes import IssueWrites
    from bot.issue_runs.intake import notices

    writes = IssueWrites(services)

    async def act(order: ForgeOrder) -> Acted | ActAgain:
        if order.kind in write_order.KINDS.values():
            return await writes.act(order)
        return await notices.act(link, order)

    return act
