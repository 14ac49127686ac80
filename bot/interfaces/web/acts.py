"""What browsers do: forms of commands, their confirmation, and their outcome."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from markupsafe import Markup

from bot.agents.services import AgentServices
from bot.commands.executor import Executor, RunOutcome
from bot.commands.parser import Json
from bot.commands.registry import Checked, Command
from bot.commands.runs import CONFIRM_FIRST, RunRequest, outcome_of, question
from bot.commands.syntax import in_docstring, written
from bot.interfaces.web import forms
from bot.interfaces.web.forms import DOOR
from bot.interfaces.web.guard import PART, RequestRefused
from bot.interfaces.web.reading import not_permitted, page
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.settings import WebAddresses
from bot.interfaces.web.views import NoSuchView
from bot.interfaces.web.visitor import Visitor, check_form, own_path, visitor_of
from bot.text.errors import UsageError
from bot.web_access.sessions_of import access_to
from database.queries.operations import command_runs

#: Seconds to wait for a command's end before the page says that it goes on.
_WAIT_S: Final = 20.0
_RUN: Final = re.compile(r"[0-9a-f]{32}")
_ENDED: Final = ("done", "refused", "failed", "lapsed")


@dataclass(slots=True)
class Acts:
    services: AgentServices
    executor: Executor
    pages: PageTemplates
    where: Callable[[], WebAddresses]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/commands/{path:.+}", self._form),
            web.post("/commands/{path:.+}", self._run),
            web.get("/done/{run}", self._done),
            web.post("/logout", self._logout),
        ]

    async def _form(self, request: web.Request) -> web.Response:
        """Show a command with its fields. What the address gives fills them, and changes nothing."""
        visitor = await self.visitor(request)
        command = self._command(request, visitor)
        given = {name: value for name, value in forms.given_in(dict(request.query)).items() if len(value) <= 2_000}
        return await self._form_page(request, visitor, command, given)

    async def _run(self, request: web.Request) -> web.Response:
        visitor = await self.visitor(request)
        sent = await sent_by(request)
        check_form(visitor, sent)
        command = self._command(request, visitor)
        given = forms.given_in(sent)
        if not visitor.may_run(command) or not await self._is_own(visitor, command, given):
            raise not_permitted(command, visitor)
        try:
            arguments = forms.arguments(command, given)
        except UsageError as error:
            if PART in request.headers:
                raise
            return await self._form_page(request, visitor, command, given, problem=str(error), status=400)
        back = own_path(sent.get("back"))
        confirmed = sent.get("confirmed") == "yes"
        if command.asks(arguments) and not confirmed:
            found = await self._to_be_confirmed(visitor, command, arguments) if command.informs else Checked(note="")
            if isinstance(found, Checked):
                return await self._confirm_page(request, visitor, command, arguments, found, back)
            outcome = found
        else:
            outcome = await self.outcome(visitor, command, arguments, sent.get("run", ""), confirmed=confirmed)
        if PART in request.headers:
            return self._part(outcome)
        if outcome.state == "refused":
            # With what was typed, so that it can be corrected.
            return await self._form_page(request, visitor, command, given, problem=outcome.text, status=422)
        return web.Response(status=303, headers={"Location": f"{_page_of(outcome)}?back={back}"})

    async def _logout(self, request: web.Request) -> web.Response:
        visitor = await self.visitor(request)
        check_form(visitor, await sent_by(request))
        command = self.services.table.get("web logout")
        if command is not None:
            await self.outcome(visitor, command, {"id": visitor.session.id}, "", confirmed=False)
        response = web.Response(status=303, headers={"Location": "/login"})
        response.del_cookie(self.where().session_cookie, path="/", secure=self.where().secure, httponly=True)
        return response

    async def _done(self, request: web.Request) -> web.Response:
        """Show the outcome of a run of this person."""
        visitor = await self.visitor(request)
        run_id = request.match_info["run"]
        if not _RUN.fullmatch(run_id):
            raise NoSuchView
        async with self.services.store.read() as tx:
            run = await command_runs.get(tx, f"{DOOR}:{run_id}")
        if run is None or run.identity != visitor.identity:
            raise NoSuchView
        back = own_path(request.query.get("back"))
        if not (page_of := _page_of(outcome_of(run))).startswith("/done/"):
            return web.Response(status=303, headers={"Location": f"{page_of}?back={back}"})
        title = f"{run.name}: {_said(outcome_of(run).state)}"
        return await page(
            self.services, self.pages, request, visitor, title, "done.html", {"back": back, **_shown(outcome_of(run))}
        )

    # --- parts -------------------------------------------------------------------------------------------------------

    async def visitor(self, request: web.Request) -> Visitor:
        """Return who asks.

        Raises:
            RequestRefused: the browser is not logged in.
        """
        visitor = await visitor_of(request, self.services, self.where())
        if visitor is None:
            raise RequestRefused("You are not logged in any more. Load the page again to log in.", 401)
        return visitor

    def _command(self, request: web.Request, visitor: Visitor) -> Command:
        """Return the command of an address, if the visitor may know it.

        Raises:
            NoSuchView: there is none.
            NotPermitted: their permission does not suffice.
        """
        command = forms.command_at(self.services.table, request.match_info["path"])
        if command is None:
            raise NoSuchView
        if command.permission > visitor.permission:
            raise not_permitted(command, visitor)
        return command

    async def _to_be_confirmed(
        self, visitor: Visitor, command: Command, arguments: Mapping[str, Json]
    ) -> Checked | RunOutcome:
        """Return what the person should know before they confirm a command, or the outcome of an impossible one."""
        outcome = await self.outcome(visitor, command, arguments, "", confirmed=False)
        data = outcome.data
        if outcome.reason != CONFIRM_FIRST or not isinstance(data, dict):
            return outcome
        pinned = {str(name): str(value) for name, value in data.get("arguments", {}).items()}
        return Checked(note=str(data.get("note", "")), arguments=pinned)

    async def _is_own(self, visitor: Visitor, command: Command, given: Mapping[str, str]) -> bool:
        """Return whether a browser that only watches logs out one of its own person."""
        if command.name != "web logout" or visitor.session.control:
            return True
        own = await access_to(self.services).listed(visitor.identity)
        return any(each.id == given.get("id") for each in own)

    async def outcome(
        self, visitor: Visitor, command: Command, arguments: Mapping[str, Json], run: str, *, confirmed: bool
    ) -> RunOutcome:
        """Run a command as the visitor, and return its outcome, or its state after a while."""
        request = RunRequest(
            # Only this browser's form has this id, and sends it twice at most.
            id=f"{DOOR}:{run if _RUN.fullmatch(run) else secrets.token_hex(16)}",
            name=command.name,
            arguments=arguments,
            identity=visitor.identity,
            permission=await self.services.operators.permission(visitor.identity),
            door=DOOR,
            confirmed=confirmed,
        )
        running = asyncio.ensure_future(self.executor.run(request))
        try:
            done, _ = await asyncio.wait({running}, timeout=_WAIT_S)
            if done:
                return running.result()
        finally:
            running.cancel()  # the command goes on all the same
        async with self.services.store.read() as tx:
            row = await command_runs.get(tx, request.id)
        if row is None:
            raise RequestRefused("This takes long, and goes on. Look at what it changes.", 503)
        return outcome_of(row)

    def _part(self, outcome: RunOutcome) -> web.Response:
        text = self.pages.render("_outcome.html", **_shown(outcome))
        status = 200 if outcome.state in ("done", "running") else 422
        return web.Response(text=text, content_type="text/html", status=status)

    async def _form_page(
        self,
        request: web.Request,
        visitor: Visitor,
        command: Command,
        given: Mapping[str, str],
        *,
        problem: str | None = None,
        status: int = 200,
    ) -> web.Response:
        table = self.services.table
        values: dict[str, object] = {
            "command": command,
            "action": forms.path_of(command),
            "explanation": written(in_docstring(command.description, table), ""),
            "summary": written(in_docstring(command.summary, table), ""),
            "usage": command.usage,
            "fields": forms.fields(command, given),
            "words": await self._words(command),
            "allowed": visitor.may_run(command),
            "problem": problem,
            "back": own_path(request.query.get("back"), "/commands"),
            "run": new_run(),
        }
        return await page(
            self.services, self.pages, request, visitor, command.name, "command.html", values, status=status
        )

    async def _confirm_page(
        self,
        request: web.Request,
        visitor: Visitor,
        command: Command,
        arguments: Mapping[str, Json],
        checked: Checked,
        back: str,
    ) -> web.Response:
        """Ask before a command that is confirmed."""
        values: dict[str, object] = {
            "action": forms.path_of(command),
            "question": written(question(command, arguments, checked.note), ""),
            # What they were told of holds, and nothing else.
            "hidden": forms.as_fields({**arguments, **checked.arguments}.items()),
            "back": back,
            "run": new_run(),
        }
        return await page(
            self.services, self.pages, request, visitor, f"Confirm {command.name}", "confirm.html", values
        )

    async def _words(self, command: Command) -> Mapping[str, list[str]]:
        """Return the words that may stand for each argument, as a prompt completes them."""
        found = {}
        for parameter in command.parameters:
            if parameter.type.source is not None and not parameter.type.choices:
                found[f"{forms.ARGUMENT}{parameter.name}"] = list(await self.services.complete(parameter.type.source))
        return found


async def sent_by(request: web.Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        RequestRefused: it is no form, or has a field twice.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise RequestRefused("Only forms of the dashboard are read here.", 415)
    try:
        found = await request.post()
    except (ValueError, UnicodeDecodeError):
        raise RequestRefused("The form cannot be read.", 400) from None
    sent = {name: value for name, value in found.items() if isinstance(value, str)}
    if len(sent) != len(found):
        raise RequestRefused("A field was sent twice.", 400)
    return sent


def new_run() -> Markup:
    """Return an id for a run. It has hexadecimal digits alone, and no pattern of the operator must mask it."""
    return Markup(secrets.token_hex(16))  # noqa: S704


def _page_of(outcome: RunOutcome) -> str:
    """Return the address of the page of an outcome: changes have one of their own, with comments on their lines."""
    kind = "changes" if outcome.name == "diff" and outcome.state == "done" else "done"
    return f"/{kind}/{outcome.run_id.partition(':')[2]}"


def _said(state: str) -> str:
    return state if state in _ENDED else "still going on"


def _shown(outcome: RunOutcome) -> Mapping[str, object]:
    """Return what the templates of an outcome get."""
    return {
        "command": outcome.name,
        "state": outcome.state,
        "said": _said(outcome.state),
        "text": outcome.text,
    }
