"""A person, or a pipe, at the terminal: what is typed goes in, what is said comes out.

With a terminal on both sides this is a prompt with history and completion. Otherwise each line of the input is a
message, its end ends the conversation, and only finished texts are printed, so that a program can read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, get_app_session

from connectors.terminal.attention import AttentionCalls
from connectors.terminal.draft import Begun, Draft
from connectors.terminal.room_view import RoomView
from connectors.terminal.transcript_file import TranscriptLine
from connectors.terminal.transcript_view import ScreenView, wants_colour
from core.async_waits import first_of
from core.errors import MusterError

Complete = Callable[[str], Awaitable[Sequence[str]]]

#: Characters of one line of piped input.
_LONGEST_LINE = 1_000_000
#: Seconds between two times that something is printed above the prompt.
_PAUSE_S = 0.05
#: Lines that are read before those in front of them are said.
_LINES_AHEAD = 100

HINT = (
    "Write !help for the commands. Other words go to the orchestrator agent.\n"
    "/switch NAME talks in an agent's thread, /switch goes back, Tab completes.\n"
    "/quit or Ctrl-D ends."
)


class PromptLink(Protocol):
    """An attachment to the terminal connector, in this process or behind a socket."""

    def conversations(self) -> list[str]:
        """Return all conversations, the main room first."""

    async def say(self, text: str, *, conversation: str, event_id: str | None = None) -> str:
        """Say something; durable when this returns."""

    def end(self) -> None:
        """Detach: what was said until now is still handed out, and then the iteration ends."""

    def __aiter__(self) -> AsyncIterator[TranscriptLine]: ...


class Hub(Protocol):
    """What can be attached to: the terminal connector."""

    def attached(self, after: int | None = None) -> AbstractAsyncContextManager[PromptLink]: ...


async def converse(
    terminal: Hub,
    *,
    complete: Complete | None = None,
    history: Path | None = None,
    settle: Callable[[], Awaitable[None]] | None = None,
    hint: str | None = HINT,
    standing: Callable[[], str] | None = None,
    draft: Draft | None = None,
    before_leaving: str | None = None,
    titled: bool = True,
) -> None:
    """Talk until the person leaves or the input ends.

    Args:
        terminal: what to attach to.
        complete: from the text before the cursor to the words that can be in place of its last one.
        history: the file that remembers what was typed, made 0600.
        settle: awaited at the end of piped input, while printing goes on: returns when everything was answered.
        hint: shown first when a person is there.
        standing: what a line below the prompt says; None: there is no such line.
        draft: where a line is kept that is not ended when the terminal goes away.
        before_leaving: shown at Ctrl-C, which then ends the talk only if it is pressed again; None: it ends it at once.
        titled: whether the title of the window shows how much waits for the person.
    """
    async with terminal.attached() as link:
        if all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
            await _prompt(link, complete, history, hint, standing, draft, titled, before_leaving)
        else:
            await _pipe(link, settle, complete)


# --- what both do ------------------------------------------------------------------------------------------------


class _Seat:
    """Where the person is, and what the words of the prompt itself do."""

    def __init__(
        self, link: PromptLink, view: ScreenView, out: Callable[[str], None], complete: Complete | None
    ) -> None:
        self.link = link
        self.view = view
        self.out = out
        self._complete = complete
        self.leaving = False
        self.on_news: Callable[[], object] = bool
        """Called when somebody begins or ends to work, and when the fleet stands otherwise."""
        self.until_answered: Callable[[], Awaitable[None]] | None = None
        """For a pipe, which cannot see whether what it asked for is there yet."""
        self._opened = asyncio.Event()

    async def typed(self, text: str) -> None:
        """Do what was typed: a word of the prompt's own, or something to say."""
        words = text.split()
        if not words:
            return
        if words[0] == "/quit" and len(words) == 1:
            self.leaving = True
        elif words == ["/help"]:
            self.out(HINT)
        elif words[0] == "/switch" and len(words) <= 2:
            await self._switch(words[1] if len(words) == 2 else None)
        else:
            text = await self._as_command(text)
            # Known before it is said, so that the line which comes back is recognised as ours.
            event_id = f"said-{uuid.uuid4().hex}"
            self.view.typed(event_id)
            try:
                await self.link.say(text, conversation=self.view.conversation, event_id=event_id)
            except MusterError as error:
                self.out(f"[not sent: {error}]")

    async def _as_command(self, text: str) -> str:
        """Return `/ps` as `!ps`; what is no command of Muster's stays, since agents have such commands, too."""
        word = text.split()[0]
        if not word.startswith("/") or self._complete is None or not word[1:].isprintable():
            return text
        command = f"!{word[1:].casefold()}"
        known = await self._complete(command)
        return text.lstrip().replace(word, command, 1) if command in known else text

    async def _switch(self, wanted: str | None) -> None:
        known = self.link.conversations()
        found = known[:1] if wanted is None else _meant(wanted, known)
        if not found and wanted is not None and self.until_answered is not None:
            await first_of(self._appears(wanted), self.until_answered())
            known = self.link.conversations()
            found = _meant(wanted, known)
        if len(found) == 1:
            self.view.conversation = found[0]
            self.out(f"[now in {found[0]}]")
        elif not found:
            self.out(f"[there is no conversation {wanted!r}; there are {', '.join(known)}]")
        else:
            self.out(f"[{wanted!r} could be {', '.join(found)}]")

    async def _appears(self, wanted: str) -> None:
        while not _meant(wanted, self.link.conversations()):
            self._opened.clear()
            await self._opened.wait()

    async def print_lines(self) -> None:
        """Print what is said until the link ends."""
        async for line in self.link:
            for text in self.view.show(line):
                self.out(text)
            self.noted(line)

    def noted(self, line: TranscriptLine) -> None:
        """Tell those who wait for what a line says."""
        if line.kind in ("typing", "fleet"):
            self.on_news()
        elif line.kind == "thread":
            self._opened.set()


def _meant(wanted: str, known: Sequence[str]) -> list[str]:
    """Return the conversation of that name, or whose last part it is, or those whose last part begins with it."""
    last = {name: name.rpartition("/")[2] for name in known}
    whole = [name for name in known if name == wanted] or [name for name in known if last[name] == wanted]
    return whole[:1] or [name for name in known if last[name].startswith(wanted)]


# --- a person ----------------------------------------------------------------------------------------------------


async def _prompt(
    link: PromptLink,
    complete: Complete | None,
    history: Path | None,
    hint: str | None,
    standing: Callable[[], str] | None,
    draft: Draft | None,
    titled: bool,
    before_leaving: str | None,
) -> None:
    from prompt_toolkit.patch_stdout import patch_stdout

    dumb = os.environ.get("TERM", "") in ("", "dumb")
    view = RoomView(colour=wants_colour(tty=True), in_place=not dumb)
    calls = AttentionCalls(os.environ, titled=titled, clock=time.monotonic)
    with patch_stdout(raw=True):
        screen = _Screen(view, calls)
        seat = _Seat(link, view, screen.say, complete)
        if hint:
            print(hint)
        session = _session(seat, view, complete, history, standing, before_leaving)
        seat.on_news = session.app.invalidate
        screen.above(session.app)
        screen.write(calls.begin())
        with _kept(draft, seat, session) as begun:
            try:
                await first_of(_ask(seat, session, begun), screen.follow(seat))
            finally:
                with contextlib.suppress(OSError):  # the terminal is gone
                    screen.write(screen.rest() + calls.end())


class _Screen:
    """What writes above the prompt, in the order in which things happen: a view counts the rows."""

    def __init__(self, view: RoomView, calls: AttentionCalls) -> None:
        self._view = view
        self._calls = calls
        self._app: Application[str] | None = None
        self._waiting: list[TranscriptLine | str] = []
        self._news = asyncio.Event()

    def above(self, app: Application[str]) -> None:
        """Write above this prompt from now on."""
        self._app = app

    def say(self, text: str) -> None:
        """Print words of the prompt's own."""
        self._waiting.append(text)
        self._news.set()

    async def follow(self, seat: _Seat) -> None:
        """Print what is said until the link ends."""
        await first_of(self._take(seat), self._print(seat))

    async def _take(self, seat: _Seat) -> None:
        async for line in seat.link:
            self._waiting.append(line)
            self._news.set()
            seat.noted(line)

    async def _print(self, seat: _Seat) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            app = self._app
            if app is not None and app.is_running and self._has_rows():
                # Unlike `run_in_terminal`, this keeps the terminal in the prompt's mode, so that no key is lost and
                # Ctrl-C remains the prompt's.
                app.renderer.erase()
                self.write(self.rest())
                app.renderer.request_absolute_cursor_position()
            else:
                self.write(self.rest())
            seat.on_news()
            # What is said meanwhile is printed at once: each time, the prompt is drawn anew.
            await asyncio.sleep(_PAUSE_S)

    def _has_rows(self) -> bool:
        return any(isinstance(each, str) or each.kind not in ("typing", "fleet") for each in self._waiting)

    def rest(self) -> str:
        """Return what to write for everything that waits."""
        waiting, self._waiting = self._waiting, []
        pieces = []
        for each in waiting:
            if isinstance(each, str):
                pieces.append(f"{self._view.printed(each)}\n")
            else:
                pieces.append(self._view.output(each) + self._calls.heard(each))
        return "".join(pieces)

    def write(self, text: str) -> None:
        """Write to the terminal itself."""
        if text:
            output = get_app_session().output
            output.write_raw(text)
            output.flush()


async def _ask(seat: _Seat, session: PromptSession[str], begun: str) -> None:
    while not seat.leaving:
        prompt = session.prompt_async(lambda: f"{seat.view.conversation}> ", default=begun, handle_sigint=False)
        try:
            text = await prompt
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        begun = ""
        # It is no line any more that was begun and not ended.
        session.default_buffer.reset()
        await seat.typed(text)


@contextlib.contextmanager
def _kept(draft: Draft | None, seat: _Seat, session: PromptSession[str]) -> Iterator[str]:
    """The line that was begun earlier, in its conversation; what is begun in the block is kept when it is cut off."""
    if draft is None:
        yield ""
        return
    earlier = draft.take()
    if earlier is not None:
        seat.view.conversation = earlier.conversation

    def keep() -> None:
        draft.keep(Begun(seat.view.conversation, session.default_buffer.text))

    def hung_up() -> None:
        keep()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGHUP)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    try:
        yield "" if earlier is None else earlier.text
    finally:
        # A terminal that is gone reads as the end of the input, which a person cannot give within a line, and refuses
        # what the prompt would write for its end.
        keep()
        loop.remove_signal_handler(signal.SIGHUP)


def _session(
    seat: _Seat,
    view: RoomView,
    complete: Complete | None,
    history: Path | None,
    standing: Callable[[], str] | None,
    before_leaving: str | None,
) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import ColorDepth

    class Words(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Any:
            return ()

        async def get_completions_async(self, document: Any, complete_event: Any) -> Any:
            text: str = document.text_before_cursor
            last = text.rpartition(" ")[2]
            words: Sequence[str]
            if text.startswith("/"):
                names = [name.rpartition("/")[2] for name in seat.link.conversations()]
                words = names if text.startswith("/switch ") else ["/switch", "/help", "/quit"]
                if complete is not None and not text.startswith("/switch "):
                    found = await complete(f"!{text[1:]}")
                    words = [*words, *(f"/{word[1:]}" if word.startswith("!") else word for word in found)]
            else:
                words = await complete(text) if complete is not None else ()
            for word in words:
                if word.startswith(last):
                    yield Completion(word, start_position=-len(last))

    def at_work() -> str:
        names = sorted(name.rpartition("/")[2] for name in seat.view.working)
        return f"{', '.join(names)}: busy" if names else ""

    bindings = KeyBindings()
    warned = False

    @bindings.add("c-c")
    def _(event: Any) -> None:
        nonlocal warned
        if event.app.current_buffer.text:
            event.app.current_buffer.reset()
        elif before_leaving is not None and not warned:
            warned = True
            seat.out(before_leaving)
        else:
            event.app.exit(exception=EOFError)

    @bindings.add("c-l")
    def _(event: Any) -> None:
        event.app.renderer.clear()
        view.forget_rows()

    if history is not None:
        with contextlib.suppress(OSError):
            os.close(os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    usable = history is not None and os.access(history, os.R_OK | os.W_OK)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)) if usable else InMemoryHistory(),
        completer=Words(),
        complete_while_typing=False,
        enable_history_search=True,
        rprompt=at_work,
        bottom_toolbar=standing,
        key_bindings=bindings,
        color_depth=None if wants_colour(tty=True) else ColorDepth.DEPTH_1_BIT,
    )

    def rendered(app: Any) -> None:
        if app.is_done:
            view.accepted(f"{view.conversation}> {session.default_buffer.text}")

    session.app.after_render += rendered
    return session


# --- a pipe ------------------------------------------------------------------------------------------------------


async def _pipe(link: PromptLink, settle: Callable[[], Awaitable[None]] | None, complete: Complete | None) -> None:
    seat = _Seat(link, ScreenView(), _to(sys.stdout), complete)
    seat.until_answered = settle
    printing = asyncio.ensure_future(seat.print_lines())
    try:
        await first_of(_read(seat, settle), asyncio.shield(printing))
        link.end()
        await printing
    except BrokenPipeError:
        # Whoever read us is gone. The interpreter must not find that out once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)


async def _read(seat: _Seat, settle: Callable[[], Awaitable[None]] | None) -> None:
    async with contextlib.aclosing(_input(sys.stdin)) as lines:
        async for text in lines:
            await seat.typed(text)
            if seat.leaving:
                break
    if settle is not None:
        await settle()


def _to(stream: TextIO) -> Callable[[str], None]:
    def out(text: str) -> None:
        stream.write(text + "\n")
        stream.flush()

    return out


async def _input(stream: TextIO | None) -> AsyncGenerator[str, None]:
    """Yield the lines of standard input, whatever it is, without blocking the loop."""
    if stream is None:
        return
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    room = threading.Semaphore(_LINES_AHEAD)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no one listens any more
            with contextlib.suppress(ValueError, OSError):
                while line := stream.readline(_LONGEST_LINE):
                    room.acquire()
                    loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\r\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    # A thread of its own, which no one waits for: reading a terminal or a file cannot be called off.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (line := await lines.get()) is not None:
        room.release()
        yield line
