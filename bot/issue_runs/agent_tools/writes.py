"""Carries out what agents ordered to be written at the forge. Each order may come again after a crash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.agent_tools import decision, evidence
from bot.issue_runs.agent_tools.operations import line_of
from bot.issue_runs.agent_tools.pull_request_text import pull_request_text
from bot.issue_runs.agent_tools.write_order import DONE, KINDS, WriteOrder, newest_description
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.run_record import current_record
from bot.issue_runs.services import IssueServices
from core.crash_points import around, declare
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import IssueRun
from forge.model.errors import ForgeAway, ForgeError, ForgeMissing, MembershipUnknown
from forge.model.references import IssueReference
from forge.provenance import markers
from forge.provenance.posts import compose
from forge.runs.order_book import ActAgain, Acted

POST = declare("issue_write.post")

#: A comment is looked for from so long before its order on: the clocks differ.
_CLOCKS_DIFFER: Final = timedelta(days=1)

_log = structlog.get_logger("forge.tools")


class _Refusal(Exception):
    """The write cannot be done, and never will be."""

    def __init__(self, sentence: str, short: str) -> None:
        super().__init__(sentence)
        self.sentence, self.short = sentence, short


@dataclass(slots=True)
class IssueWrites:
    """Acts on the orders of agents' writes (`OrderBook.act`)."""

    services: IssueServices

    async def act(self, order: ForgeOrder) -> Acted | ActAgain:
        """Carry out an order of one of the kinds in `write_order.KINDS`.

        Raises:
            ForgeAway: it is tried again later.
        """
        write = WriteOrder.of(order)
        async with self.services.store.read() as tx:
            run = await issue_runs.get(tx, order.run)
            last = newest_description(await forge_orders.of_run(tx, order.run))
        forge = self.services.forge
        try:
            if run is None or (run.state == "destroyed" and run.pull_request is None):
                raise _Refusal("The run is over. Nothing was done.", "the run is over")
            if forge is None or forge.host != run.forge:
                return ActAgain("No forge is configured, or another one.")
            number = write.number
            if order.kind == KINDS["update_description"] and last is not None and last.key != order.key:
                raise _Refusal("A later text replaced this one.", "replaced by a later text")
            if order.kind != KINDS["post_comment"]:
                if run.pull_request is None:
                    return ActAgain("There is no pull request yet.")
                number = run.pull_request
            scope = decision.scope_of(run)
            target = IssueReference(scope.repository, number)
            scope.check_write(target)
            with around(POST):
                await self._do(forge, run, write, order, target)
        except _Refusal as refused:
            return Acted(refused.sentence, also=self._noted(write, order.run, f"#{write.number}", refused.short))
        except ForgeAway:
            raise
        except MembershipUnknown as error:
            _log.warning("forge.write_waits", order=order.key, reason=str(error))
            return ActAgain(str(error))
        except ForgeMissing:
            text = f"There is no #{number} any more. Nothing was done."
            return Acted(text, also=self._noted(write, order.run, f"#{number}", "it does not exist"))
        except ForgeError as error:
            _log.warning("forge.write_refused", order=order.key, reason=str(error))
            text = f"The issue tracker refused this on #{number}. Nothing was done; your operator can see why."
            return Acted(text, also=self._noted(write, order.run, f"#{number}", "the forge refused it"))
        return Acted(DONE, also=self._noted(write, order.run, f"#{number}", None))

    async def _do(
        self, forge: ForgeLink, run: IssueRun, write: WriteOrder, order: ForgeOrder, target: IssueReference
    ) -> None:
        match write.tool:
            case "post_comment":
                await self._comment(forge, run, write, order, target)
            case "update_description":
                found = await forge.client.read_pull_request(target)
                if markers.key_of(found.body, forge.marker_secret) != write.call:
                    text = await pull_request_text(self.services, forge, run, write.body, key=write.call)
                    await forge.client.update_description(target, text)
            case "request_review":
                await self._review(forge, write, target)

    async def _comment(
        self, forge: ForgeLink, run: IssueRun, write: WriteOrder, order: ForgeOrder, target: IssueReference
    ) -> None:
        ours = (await forge.whoami()).account.id
        since = datetime.fromtimestamp(order.created_at, UTC) - _CLOCKS_DIFFER
        comments = await forge.client.read_comments(target, since=since)
        if markers.find(comments, write.call, forge.marker_secret, ours) is not None:
            return
        record = await current_record(self.services, run)
        body = compose(write.body, record, key=write.call, secret=forge.marker_secret)
        await forge.client.post_comment(target, body)

    async def _review(self, forge: ForgeLink, write: WriteOrder, target: IssueReference) -> None:
        for login in write.people:
            if not await forge.client.is_org_member(forge.settings.organization, login):
                # A request for a review is a message to somebody, and agents send none to strangers.
                raise _Refusal(f"{login} is no member of the organization. Nobody was asked.", "not a member")
        await forge.client.request_review(target, write.people)

    def _noted(
        self, write: WriteOrder, run: str, target: str, refusal: str | None
    ) -> Callable[[AsyncConnection], Awaitable[None]]:
        line = line_of(write.tool, target, refusal)

        async def note(tx: AsyncConnection) -> None:
            await evidence.add_line(tx, run, line)
            await evidence.audited(
                tx,
                self.services,
                agent=write.agent,
                call=write.call,
                tool=write.tool,
                arguments={"number": write.number, **({"people": list(write.people)} if write.people else {})},
                outcome="done" if refusal is None else "refused",
                detail=line,
            )

        return note
