"""The page of an agent's changes, where a person comments on lines and sends all comments as one message.

The page shows one run of `diff`, so its lines stay what they are while the agent works on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from markupsafe import Markup

from bot.commands.runs import outcome_of
from bot.interfaces.web.acts import Acts, new_run, sent_by
from bot.interfaces.web.diff_lines import DiffLine, diff_lines
from bot.interfaces.web.forms import DOOR
from bot.interfaces.web.guard import PART
from bot.interfaces.web.reading import not_permitted, page
from bot.interfaces.web.review import comments
from bot.interfaces.web.review.comments import CommentRefused, LineComment
from bot.interfaces.web.stream import for_visitor
from bot.interfaces.web.views import NoSuchView
from bot.interfaces.web.visitor import Visitor, check_form, check_sees, own_path
from bot.web_access.service import CommentRows, WebAccess
from bot.web_access.sessions_of import access_to
from database.queries.operations import command_runs

_SEND: Final = "send"
_PLACE: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class ShownChanges:
    """The changes of one page."""

    id: str
    agent: str
    text: str
    lines: Sequence[DiffLine]
    is_cut: bool
    """Whether the diff has more lines than a page."""

    @property
    def path(self) -> Markup:
        # Hexadecimal digits. A pattern of the operator must not mask them.
        return Markup(f"/changes/{self.id}")  # noqa: S704


@dataclass(slots=True)
class ReviewPages:
    acts: Acts

    def routes(self) -> list[web.RouteDef]:
        run = "/changes/{run:[0-9a-f]{32}}"
        return [
            web.get(run, self._changes),
            web.get(f"{run}/lines/{{place}}", self._line),
            web.post(f"{run}/comments", self._collect),
            web.post(f"{run}/comments/remove", self._remove),
            web.post(f"{run}/send", self._send),
        ]

    async def _changes(self, request: web.Request) -> web.Response:
        visitor, shown = await self._shown(request)
        return await self._changes_page(request, visitor, shown)

    async def _line(self, request: web.Request) -> web.Response:
        """Show the form of a comment. Its address says the lines, and changes nothing."""
        visitor, shown = await self._shown(request)
        self._check_may_send(visitor)
        place, count = _number(request.match_info["place"]), _number(request.query.get("count", "1"))
        lines = comments.lines_from(shown.lines, place, count)
        values = {"shown": shown, "place": place, "count": len(lines), "picked": lines, **_constants(lines)}
        if PART in request.headers:
            return self._part("_line_form.html", visitor, {**values, "comment": new_run()})
        title = f"Comment on {lines[0].file}"
        return await self._page(request, visitor, title, "line.html", {**values, "comment": new_run()})

    async def _collect(self, request: web.Request) -> web.Response:
        visitor, shown, sent = await self._posted(request)
        place, count = _number(sent.get("place", "")), _number(sent.get("count", ""))
        new = comments.comment_on(
            shown.lines,
            place,
            count,
            sent.get("words", ""),
            id=sent.get("comment", ""),
            agent=shown.agent,
            at=self.acts.services.clock(),
        )

        def changed(rows: CommentRows) -> CommentRows | None:
            return comments.as_rows(comments.with_comment(comments.from_rows(rows), new))

        await self._access.keep_comments(visitor.session.id, changed)
        return await self._collected_part(request, visitor, shown)

    async def _remove(self, request: web.Request) -> web.Response:
        visitor, shown, sent = await self._posted(request)
        await self._forget(visitor, {sent.get("id", "")})
        return await self._collected_part(request, visitor, shown)

    async def _send(self, request: web.Request) -> web.Response:
        """Send what was collected for the agent by the command `send`, and forget it once that is done."""
        visitor, shown, sent = await self._posted(request)
        collected = await self._collected(visitor, shown.agent)
        command = self.acts.services.table.get(_SEND)
        back = own_path(sent.get("back"), shown.path)
        if command is None or not collected:
            raise CommentRefused("No comment waits to be sent. It may have been sent in another tab.")
        arguments = {"name": shown.agent, "text": comments.message(collected)}
        outcome = await self.acts.outcome(visitor, command, arguments, sent.get("run", ""), confirmed=False)
        if outcome.state == "done":
            await self._forget(visitor, {each.id for each in collected})
        elif outcome.state == "refused":
            return await self._changes_page(request, visitor, shown, problem=outcome.text, status=422)
        return web.Response(status=303, headers={"Location": f"/done/{outcome.run_id.partition(':')[2]}?back={back}"})

    # --- parts -------------------------------------------------------------------------------------------------------

    @property
    def _access(self) -> WebAccess:
        return access_to(self.acts.services)

    async def _shown(self, request: web.Request) -> tuple[Visitor, ShownChanges]:
        """Return who asks, and the changes of an address.

        Raises:
            NoSuchView: there are none, or another person looked at them.
            NotPermitted: the person may not see changes any more.
        """
        visitor = await self.acts.visitor(request)
        services = self.acts.services
        check_sees(visitor, services, "diff")
        async with services.store.read() as tx:
            run = await command_runs.get(tx, f"{DOOR}:{request.match_info['run']}")
        if run is None or run.identity != visitor.identity or run.name != "diff" or run.state != "done":
            raise NoSuchView
        outcome = outcome_of(run)
        data = outcome.data if isinstance(outcome.data, dict) else {}
        diff = data.get("diff")
        diff = diff.removesuffix("\n") if isinstance(diff, str) else ""
        lines = diff_lines(diff) if diff else ()
        is_cut = len(lines) < diff.count("\n") + 1 and bool(diff)
        agent = str(run.arguments.get("name", ""))
        return visitor, ShownChanges(request.match_info["run"], agent, outcome.text, lines, is_cut)

    async def _posted(self, request: web.Request) -> tuple[Visitor, ShownChanges, Mapping[str, str]]:
        sent = await sent_by(request)
        visitor, shown = await self._shown(request)
        check_form(visitor, sent)
        self._check_may_send(visitor)
        return visitor, shown, sent

    def _may_send(self, visitor: Visitor) -> bool:
        command = self.acts.services.table.get(_SEND)
        return command is not None and visitor.may_run(command)

    def _check_may_send(self, visitor: Visitor) -> None:
        command = self.acts.services.table.get(_SEND)
        if command is None:
            raise NoSuchView
        if not visitor.may_run(command):
            raise not_permitted(command, visitor)

    async def _collected(self, visitor: Visitor, agent: str) -> tuple[LineComment, ...]:
        rows = await self._access.comments(visitor.session.id)
        return comments.of_agent(comments.from_rows(rows), agent)

    async def _forget(self, visitor: Visitor, ids: set[str]) -> None:
        def changed(rows: CommentRows) -> CommentRows | None:
            return comments.as_rows([each for each in comments.from_rows(rows) if each.id not in ids])

        await self._access.keep_comments(visitor.session.id, changed)

    async def _collected_part(self, request: web.Request, visitor: Visitor, shown: ShownChanges) -> web.Response:
        if PART not in request.headers:
            return web.Response(status=303, headers={"Location": f"{shown.path}#comments"})
        return self._part("_comments.html", visitor, await self._collected_values(visitor, shown))

    async def _collected_values(self, visitor: Visitor, shown: ShownChanges) -> Mapping[str, object]:
        collected = await self._collected(visitor, shown.agent)
        return {"shown": shown, "collected": collected, "run": new_run(), "may_send": self._may_send(visitor)}

    async def _changes_page(
        self,
        request: web.Request,
        visitor: Visitor,
        shown: ShownChanges,
        *,
        problem: str | None = None,
        status: int = 200,
    ) -> web.Response:
        values: dict[str, object] = {
            **await self._collected_values(visitor, shown),
            "problem": problem,
            "most_quoted": comments.MOST_QUOTED,
            "back": own_path(request.query.get("back"), f"/agents/{shown.agent}" if shown.agent else "/"),
        }
        return await self._page(request, visitor, f"Changes of {shown.agent}", "changes.html", values, status=status)

    async def _page(
        self,
        request: web.Request,
        visitor: Visitor,
        title: str,
        template: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
    ) -> web.Response:
        acts = self.acts
        return await page(acts.services, acts.pages, request, visitor, title, template, values, status=status)

    def _part(self, template: str, visitor: Visitor, values: Mapping[str, object]) -> web.Response:
        text = self.acts.pages.render(template, **{**for_visitor(visitor), **values})
        return web.Response(text=text, content_type="text/html")


def _constants(lines: Sequence[DiffLine]) -> Mapping[str, object]:
    return {
        "where": comments.numbers(lines),
        "most_quoted": comments.MOST_QUOTED,
        "longest_words": comments.LONGEST_WORDS,
    }


def _number(text: str) -> int:
    """Return a number of an address or a form.

    Raises:
        CommentRefused: it is none.
    """
    if not _PLACE.fullmatch(text):
        raise CommentRefused("The lines are not given as numbers. Choose a line on the page of the changes.")
    return int(text)
