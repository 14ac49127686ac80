"""Handing an agent's conversation to a person at a terminal, and taking it back: one at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from core.async_waits import first_of
from fleet.errors import AgentRefused, FleetError
from fleet.host.handover.orders import HandoverOrder, terminal_command
from fleet.host.handover.terminal_program import TerminalProgram
from fleet.host.journal_fanout import JournalFanout
from fleet.host.runtime_process import check_workspace, make_ready, missing_program, reap_orphans
from fleet.host.turn_queue import TurnQueue
from fleet.journal.events import HandedBack, HandedOver, Notice
from fleet.supervision.process_sweep import Unsweepable

#: A turn that was cancelled for a handover has this long to end.
_CANCEL_S: Final = 3.0
#: A program that closed its terminal has this long to end.
_ENDING_S: Final = 1.0
#: Seconds between looks for what stopped itself in the terminal.
_LOOK_S: Final = 1.0


class Handovers:
    """Takes orders, and carries out the one that is due when the agent host says so.

    Args:
        refused: why no order is taken now, as code and sentence; None: it is.
    """

    def __init__(
        self, chronicle: JournalFanout, turns: TurnQueue, *, refused: Callable[[], tuple[str, str] | None]
    ) -> None:
        self._chronicle = chronicle
        self._turns = turns
        self._refused = refused
        self._order: HandoverOrder | None = None
        self._due = False
        self._program: TerminalProgram | None = None

    @property
    def due(self) -> bool:
        """Whether an order waits for the runtime's end."""
        return self._due

    @property
    def pid(self) -> int | None:
        """The process id of the terminal program, while it is alive."""
        return self._program.pid if self._program is not None and self._program.alive else None

    async def ask(self, order: HandoverOrder) -> TerminalProgram:
        """Take an order, and return the program once it runs.

        Raises:
            AgentRefused: ``handed_over``: somebody has it; ``turn_open``: a turn runs, and the order does not cancel
                it; ``no_terminal``, ``no_session``, ``terminal_failed``: the program cannot be started; ``starting``,
                ``stopping``: the agent is not ready.
        """
        try:
            await asyncio.to_thread(check_workspace, self._chronicle.spec)
        except FleetError as error:
            raise AgentRefused(str(error), refusal="terminal_failed") from None
        if self._order is not None:
            raise AgentRefused(f"{self._order.by} has it in a terminal already.", refusal="handed_over")
        self._command()
        if (refused := self._refused()) is not None:
            raise AgentRefused(refused[1], refusal=refused[0])
        self._order = order
        self._turns.pause()
        await self._turns.settled()
        if self._chronicle.state.turn is not None and not order.now:
            self._give_up(AgentRefused("A turn is running.", refusal="turn_open"))
        elif (refused := self._refused()) is not None:
            self._give_up(AgentRefused(refused[1], refusal=refused[0]))
        else:
            self._due = True
            self._chronicle.pulse.ring()
        return await asyncio.shield(order.begun)

    def _command(self) -> tuple[str, ...]:
        state = self._chronicle.state
        begun = state.introduced or state.turn is not None
        return terminal_command(self._chronicle.spec, state.session, begun=begun)

    async def until_due(self) -> None:
        """Wait for an order, and until no turn is open any more or the turn was cancelled and had its time."""
        chronicle = self._chronicle
        await chronicle.pulse.until(lambda: self._due)
        if chronicle.state.turn is not None:
            self._turns.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_S):
                    await chronicle.pulse.until(lambda: chronicle.state.turn is None)

    def refuse(self, reason: str, code: str) -> None:
        """Refuse the order that waits, if one does."""
        if self._order is not None:
            self._give_up(AgentRefused(reason, refusal=code))

    def _give_up(self, refusal: AgentRefused) -> None:
        order = self._order
        self._order, self._due = None, False
        if not self._refused():
            self._turns.resume()
        if order is not None and not order.begun.done():
            _refuse(order, refusal)

    async def carry_out(self, stopped: Callable[[], bool]) -> None:
        """Run the terminal program until it or its person is gone, or `stopped`. The runtime has ended before.

        Everything that the program started is gone afterwards.

        Args:
            stopped: whether the agent has to end now.
        """
        order, chronicle = self._order, self._chronicle
        assert order is not None
        try:
            command = self._command()
            await asyncio.to_thread(make_ready, chronicle.spec)
            program = await TerminalProgram.start(chronicle.spec, command, order.variables, order.size)
        except AgentRefused as refusal:
            self._give_up(refusal)
            return
        except FleetError as error:
            self._give_up(AgentRefused(str(error), refusal="terminal_failed"))
            return
        except (OSError, ValueError) as error:
            why = missing_program(chronicle.spec.terminal, error) if isinstance(error, OSError) else f"{error}."
            self._give_up(AgentRefused(why, refusal="terminal_failed"))
            return
        self._program = program
        reason = "The agent host ended."
        try:
            await chronicle.say(HandedOver(by=order.by, session=chronicle.state.session or ""))
            order.begun.set_result(program)
            await first_of(order.left.wait(), chronicle.pulse.until(stopped), self._watch(program))
            reason = await self._how_it_was_left(program) if order.left.is_set() else "The agent was told to end."
        finally:
            order.ending.set()
            if order.begun.done():
                await order.left.wait()
            else:
                _refuse(order, AgentRefused("The agent host is about to end.", refusal="stopping"))
            try:
                await program.end()
            except Unsweepable as error:
                chronicle.journal.record(Notice(text=str(error)))
            self._program, self._order, self._due = None, None, False
            await chronicle.say(HandedBack(by=order.by, reason=reason))
            order.over.set_result(reason)

    async def _how_it_was_left(self, program: TerminalProgram) -> str:
        with contextlib.suppress(TimeoutError):
            return f"The terminal program {await asyncio.wait_for(program.wait(), _ENDING_S)}."
        return "The terminal was closed."

    async def _watch(self, program: TerminalProgram) -> None:
        """Give a status at each interval, and continue what stopped itself."""
        interval = self._chronicle.spec.heartbeat_s
        loop = asyncio.get_running_loop()
        beaten = loop.time()
        while True:
            await asyncio.sleep(min(interval, _LOOK_S))
            await asyncio.to_thread(program.go_on)
            reap_orphans(except_pid=program.pid)
            if loop.time() - beaten >= interval:
                beaten = loop.time()
                self._chronicle.beat()


def _refuse(order: HandoverOrder, refusal: AgentRefused) -> None:
    order.begun.set_exception(refusal)
    # Whoever asked may be gone.
    order.begun.exception()
