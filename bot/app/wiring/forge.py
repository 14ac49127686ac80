"""Issues of a forge: what they share, and their stages. Nothing of it is loaded unless muster.yaml has the block."""

from __future__ import annotations

from functools import partial

from bot.app.stages import Stage
from bot.issue_runs.forge_link import ForgeLink
from bot.reports.services import ReportServices
from core.signing.signing_key import SigningKey


def stages(services: ReportServices) -> list[Stage]:
    """Create `services.forge` and the parts around it, and return their stages in order; none without a forge.

    Raises:
        MusterError: a secret cannot be resolved, or the signing key not be read.
    """
    if services.settings.forge is None:
        return []
    from bot.app.wiring import forge_intake
    from bot.issue_runs import notices
    from forge.runs.order_book import OrderBook

    services.forge = link = _link(services)
    book = OrderBook(services.store, partial(notices.act, link), services.clock)
    services.rounds = _QueuedRounds()
    parts = forge_intake.make(services, link, book.wake)
    return [
        Stage("forge client", stop=link.client.close),
        Stage("forge orders", run=book.run),
        *parts.stages(),
    ]


class _QueuedRounds:
    """Leaves runs queued (`RoundsPort`)."""

    def wake(self) -> None:
        pass

    def look_again(self, run_id: str) -> None:
        del run_id

    async def destroy(self, run_id: str) -> bool:
        del run_id
        return True

    async def reopen(self, run_id: str) -> bool:
        del run_id
        return True


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
        client=open_client(block.kind, address, token),
        token=token,
        marker_secret=key.derived("markers of posts"),
        folder=services.paths.state / "repositories" / address.host.replace(":", "-"),
    )
