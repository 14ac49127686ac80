"""tmux as a chat system: a terminal (`connectors.terminal`) for which Muster makes the place where it is shown.

A small program in a pane shows the room and takes what is typed. It outlives this process and comes back to the next
one by itself, so that the pane is made once, and found again by an option that was set on it. A pane that the person
closed stays closed until someone asks for another, or Muster is started again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, Protocol

from connectors.contract.agent_count_feed import Headcount
from connectors.contract.connector_protocol import NotReady
from connectors.contract.messages import Health
from connectors.terminal.connector import TerminalConnector, TerminalSession
from connectors.tmux.pane_model import PanePlace, WantedPane
from connectors.tmux.process_client import TmuxUnanswered, ask, surroundings
from connectors.tmux.settings import TmuxSettings
from core.async_waits import set_within

#: Seconds after which tmux is asked again when there could be no pane.
RETRY: Final = 30.0
#: Seconds that the program in the pane has to come (back); it needs one or two.
GRACE: Final = 15.0
#: Seconds after which it is looked whether there still is a pane to come into.
SOON_S: Final = 3.0

_State = Literal["starting", "standing", "silent", "closed", "trouble"]


class _Ask(Protocol):
    async def __call__(self, wanted: WantedPane, *, make: bool, anew: bool = False) -> PanePlace | None: ...


class TmuxConnector(TerminalConnector):
    """The hub between Muster and the pane."""

    kind = "tmux"
    SettingsModel = TmuxSettings

    def __init__(
        self,
        name: str,
        settings: TmuxSettings,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        pane_program: Sequence[str] = (),
        pane_version: str = "",
        headcount: Headcount | None = None,
        asking: _Ask = ask,
        grace: float = GRACE,
        retry: float = RETRY,
    ) -> None:
        """Args:
        name: the connection's name in ``muster.yaml``.
        settings: which server, session and window.
        folder: where the transcript is; also what the pane is known by.
        clock: seconds since the epoch.
        pane_program: the command line of what shows the room in the pane.
        pane_version: another word for each version of it.
        headcount: what the pane's status line shows; None: nothing.
        asking: asks tmux.
        grace: seconds that the program in the pane has to come.
        retry: seconds after which tmux is asked again.
        """
        super().__init__(name, settings, folder, clock=clock, headcount=headcount)
        self._settings = settings
        self._asking = asking
        self._grace = grace
        self._retry = retry
        self._wanted = WantedPane(
            socket=settings.socket,
            mark=str(folder),
            session=settings.session,
            window=settings.window,
            program=pane_program,
            variables=surroundings(),
            version=hashlib.sha256("\0".join((pane_version, *pane_program)).encode()).hexdigest()[:16],
        )
        self._state: _State = "starting"
        self._place: PanePlace | None = None
        self._trouble = ""
        self._one_at_a_time = asyncio.Lock()
        self._changed = asyncio.Event()

    # --- the connector's contract -------------------------------------------------------------------------------

    async def start(self, cursor: str | None) -> None:
        while True:
            await self._look(make=True)
            if self._state == "trouble":
                await self._news(within=self._retry)
            else:
                await self._watch()

    async def health(self) -> Health:
        return Health(
            kind=self.kind,
            reachable=True if self._sessions else None if self._state in ("starting", "standing") else False,
            authenticated=True,
            last_seen=self._clock() if self._sessions else None,
            detail=self._detail(),
        )

    @asynccontextmanager
    async def attached(self, after: int | None = None) -> AsyncIterator[TerminalSession]:
        try:
            async with super().attached(after) as session:
                self._changed.set()
                yield session
        finally:
            self._changed.set()

    # --- the pane -----------------------------------------------------------------------------------------------

    async def open(self) -> str:
        """Make the pane where there is none, and say where it is.

        Raises:
            NotReady: it cannot be made; the message says what to do.
        """
        await self._look(make=True, anew=not self._sessions)
        if self._state == "trouble" or self._place is None:
            raise NotReady(self._trouble)
        self._changed.set()
        server = self._settings.socket
        option = "" if server is None else f" -S {server}" if "/" in server else f" -L {server}"
        return f"The fleet's room is in {self._place}: `tmux{option} attach -t '={self._place.session}'`."

    async def _look(self, *, make: bool, anew: bool = False) -> None:
        async with self._one_at_a_time:
            try:
                place = await self._asking(self._wanted, make=make, anew=anew)
            except (TmuxUnanswered, OSError) as error:
                self._state, self._trouble = "trouble", str(error)
                return
            self._place = place
            self._state = "closed" if place is None else "standing"

    async def _watch(self) -> None:
        """See whether the program in the pane is there, until tmux cannot be asked.

        Nothing is asked while it is there: when it goes, its connection does.
        """
        while True:
            # A pane that was closed is known to be soon; a program that begins is given its time.
            for grace in (SOON_S, self._grace - SOON_S) if self._grace > SOON_S else (self._grace,):
                if self._sessions or await self._comes(grace):
                    break
                await self._look(make=False)
                if self._state == "trouble":
                    return
                if self._state == "closed":
                    break
            else:
                self._state = "silent"
            await self._news()
            if self._sessions:
                self._state = "standing"

    async def _comes(self, grace: float) -> bool:
        until = asyncio.get_running_loop().time() + grace
        while not self._sessions:
            left = until - asyncio.get_running_loop().time()
            if left <= 0 or not await self._news(within=left):
                return bool(self._sessions)
        return True

    async def _news(self, *, within: float | None = None) -> bool:
        """Wait until the program came or went, or the pane was asked for."""
        self._changed.clear()
        return await set_within(self._changed, within)

    def _detail(self) -> str:
        again = "`muster tmux open` makes another, as does starting Muster again"
        where = "a pane" if self._place is None else str(self._place)
        if self._sessions:
            return f"Shown in {where}."
        match self._state:
            case "trouble":
                return f"{self._trouble} Tried again every {self._retry:g} s. Messages wait in the transcript."
            case "closed":
                return f"The tmux pane was closed; {again}. Messages wait in the transcript."
            case "silent":
                return (
                    f"The program that shows the room in {where} did not start. `muster tmux open` starts it again. "
                    f"Messages wait in the transcript."
                )
            case _:
                return f"Waiting for the program that shows the room in {where}."
