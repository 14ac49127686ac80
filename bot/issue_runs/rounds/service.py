"""The rounds of issue runs: which of them begin, who acts on their orders, and what ends them.

Everything that must survive is in the register. A round begins in one transaction, which takes what it was woken by.
Its workflow orders one step after the other, and may be begun again under the same id: orders that are done have their
outcomes. So each start makes a new file for the workflows, from the rounds that have not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.rounds import places, settle_step, text
from bot.issue_runs.rounds.destroying import Destroying
from bot.issue_runs.rounds.posting_steps import ProposeStep, RecordStep
from bot.issue_runs.rounds.publish_step import PublishStep
from bot.issue_runs.rounds.round_choice import next_round
from bot.issue_runs.rounds.round_state import DONE, GIVEN_UP, STALE, RoundContext, order_key, place_of, thread_of
from bot.issue_runs.rounds.settle_step import SettleStep
from bot.issue_runs.rounds.silence import SilenceWatch
from bot.issue_runs.rounds.work_step import WorkStep
from bot.messaging.composer import MessagePlace
from bot.text.errors import UserError
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import RegisterError, is_away
from database.queries.agents import agents
from database.queries.agents.runs import AgentRun
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import ACTIVE, ALIVE, IssueRun
from forge.model.errors import ForgeAway, ForgeError
from forge.runs.order_book import INTERNAL, Act, ActAgain, Acted, OrderBook
from forge.runs.round import PublishResult, RoundStep, WorkResult, play_round

log = structlog.get_logger(__name__)

BEGIN: Final = declare("issues.begin")
TELL: Final = declare("issues.tell")
ORDER: Final = declare("issues.order")

#: The kind of orders to tidy up. Registers contain the name, so it never changes.
DESTROY: Final = "destroy"
_DESTROY_AGAIN_S: Final = 30.0

#: Seconds after which a step is given up that the forge refuses, or that fails in a way that nobody foresaw. After as
#: long, an ended run is removed although its commits cannot be kept.
GIVE_UP_S: Final = 6 * 3600.0
#: What steps come to that are given up. The round's other steps follow, and then a person decides.
_GIVEN_UP: Final = {
    RoundStep.WORK: WorkResult.FAILED.value,
    RoundStep.PUBLISH: PublishResult.REFUSED.value,
    RoundStep.PROPOSE: GIVEN_UP,
    RoundStep.RECORD: GIVEN_UP,
    RoundStep.SETTLE: DONE,
}

#: Seconds between two looks, if nothing wakes it.
LOOK_EVERY_S: Final = 30.0
#: The minimum time between two looks; seconds.
_LEAST_S: Final = 0.05


@dataclass(slots=True)
class Rounds:
    """Plays rounds (`bot.issue_runs.ports.RoundsPort`)."""

    round: RoundContext
    publish: PublishStep
    record: RecordStep
    other: Act
    """Acts on orders that are no steps of rounds."""
    book: OrderBook = field(init=False)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _played: dict[tuple[str, int], asyncio.Task[str]] = field(default_factory=dict)
    """The rounds that this process plays."""
    _silence: SilenceWatch = field(init=False)
    _unreadable: set[str] = field(default_factory=set)
    """The runs whose rows could not be read at the last look."""

    def __post_init__(self) -> None:
        services = self.round.services
        self.book = OrderBook(services.store, self.act, services.clock)
        self._silence = SilenceWatch(self.round)
        services.runs.on_ended.append(self._work_ended)
        services.questions.on(settle_step.REFUSED, self._decided, self._after_decision)
        services.questions.on(issue_runs.USED_UP, self._may_go_on, self._after_decision)

    # --- the port -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look soon for runs that can begin, and for rounds that are due."""
        self._due.set()

    def look_again(self, run_id: str) -> None:
        """Look again at the open order of a run: its agent signalled or ended, or a person decided."""
        for played, number in self._played:
            if played == run_id:
                for step in RoundStep:
                    self.book.wake(order_key(run_id, number, step))
        self.wake()

    async def destroy(self, run_id: str) -> None:
        """Order that what is left of a run is tidied up: its pull request was merged or closed.

        Return when the order is durable. It may be called again until the run is destroyed.

        Raises:
            RegisterError: the register cannot be written.
        """
        now = self.round.services.clock()
        async with self.round.services.store.write(ORDER) as tx:
            earlier = [each for each in await forge_orders.of_run(tx, run_id) if each.kind == DESTROY]
            if not any(each.state == "open" for each in earlier):
                # After a run was reopened, it can be closed once more.
                key = f"{run_id}/{DESTROY}/{len(earlier) + 1}"
                order = ForgeOrder(key=key, run=run_id, kind=DESTROY, input={}, try_at=now, created_at=now)
                await forge_orders.add(tx, order)
            keys = [each.key for each in await forge_orders.of_run(tx, run_id) if each.kind == DESTROY]
        for key in keys:
            self.book.wake(key)

    async def reopen(self, run_id: str) -> None:
        """Have a destroyed run go on when somebody asks for more: its pull request was reopened.

        Raises:
            RegisterError: the register cannot be written.
        """
        values = {"state": "frozen", "ended_at": None, "active_at": self.round.services.clock()}
        async with self.round.services.store.write(ORDER) as tx:
            await issue_runs.change(tx, run_id, only=["destroyed"], **values)
        self.wake()

    async def forget_commits(self) -> None:
        """Let go of the commits of runs that ended before the time in muster.yaml.

        Raises:
            RegisterError: the register cannot be read.
        """
        before = self.round.services.clock() - self.round.link.settings.keep_commits
        async with self.round.services.store.read() as tx:
            over = await issue_runs.in_states(tx, ["destroyed"])
        for run in over:
            if run.forge == self.round.link.host and (run.ended_at or 0.0) < before:
                await asyncio.to_thread(Destroying(self.round).forget_commits, run)

    def _work_ended(self, work: AgentRun) -> None:
        run_id, _, number = work.id.rpartition("-")
        if work.source == self.round.link.host and number.isdecimal():
            self.book.wake(order_key(run_id, int(number), RoundStep.WORK))

    # --- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Begin rounds and act on their orders, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.book.run(), name="forge orders")
                await self._keep_looking()
        finally:
            for task in list(self._played.values()):
                task.cancel()

    async def _keep_looking(self) -> None:
        while True:
            self._due.clear()
            try:
                await self.look()
            except RegisterError as error:
                log.info("rounds.not_looked_at", reason=str(error))
                await self.round.services.store.rest(1.0)
            except Exception as error:
                if not is_away(error):
                    log.exception("rounds.failed")
            await asyncio.sleep(_LEAST_S)
            await set_within(self._due, LOOK_EVERY_S)

    async def look(self) -> None:
        """Begin what can begin, and end what is silent.

        Raises:
            RegisterError: the register cannot be used.
        """
        services, host = self.round.services, self.round.link.host
        async with services.store.read() as tx:
            found = await issue_runs.in_states(tx, ALIVE)
            woken = await issue_runs.woken(tx)
            is_all = len(found) == await issue_runs.count(tx, ALIVE)
            unreadable = [] if is_all else await issue_runs.unreadable(tx)
        await self._tell_unreadable(unreadable)
        for run in found:
            if run.forge != host:
                continue
            try:
                if run.state in ACTIVE:
                    self._play(run.id, run.round)
                    await self._silence.look(run)
                elif run.waits(woken):
                    await self._begin(run)
            except RegisterError:
                raise
            except Exception as error:
                if is_away(error):
                    raise
                log.exception("round.not_looked_at", run=run.id)
                await self._tell_broken(run, text.broken(run, INTERNAL))

    async def _begin(self, run: IssueRun) -> None:
        """Begin the first round of a run, or its next one, if there is room and a reason."""
        most = self.round.link.settings.runs
        if await self.round.services.store.transact(BEGIN, lambda tx: self.begin(tx, run, most=most)):
            number = run.next_round
            log.info("round.begun", run=run.id, round=number)
            self._play(run.id, number)
        self.round.services.delivery.wake()

    async def begin(self, tx: AsyncConnection, run: IssueRun, *, most: int | None) -> bool:
        """Begin the next round of a run, in one transaction. `wake` follows the commit.

        Args:
            tx: the transaction.
            run: the run, as it was read before.
            most: how many places there are; None: any number.

        Returns:
            False if there is no place, or no reason to go on any more.
        """
        current = await issue_runs.get(tx, run.id)
        if run.forge != self.round.link.host or current is None or current.is_held:
            return False
        if (current.state, current.round) != (run.state, run.round):
            return False
        values = {} if run.state == "queued" else await self._next(tx, current)
        if values is None or (most is not None and await places.taken(tx) >= most):
            return False
        number = run.next_round
        if run.state != "queued":
            await issue_runs.take_wakes(tx, run.id, number)
            await settle_step.withdraw_questions(tx, self.round.services, current, "The run goes on.")
        begun = {"state": "running", "round": number, "detail": None, "active_at": self.round.services.clock()}
        return await issue_runs.change(tx, run.id, only=[run.state], **begun, **values)

    async def _next(self, tx: AsyncConnection, run: IssueRun) -> dict[str, object] | None:
        """Return what of a run changes with its next round; None: it does not begin."""
        services = self.round.services
        wakes = await issue_runs.wakes(tx, run.id)
        asked = await questions.get(tx, settle_step.question_id(issue_runs.USED_UP, run))
        allowed = asked is not None and asked.answer == settle_step.GO_ON.word
        found = next_round(run, wakes, self.round.link.settings.wakes, services.clock(), allowed=allowed)
        if found.begins:
            kept = {} if found.only_publishes else {"signal": None}
            return {"findings": None, **kept}
        if found.refusal is not None and asked is None:
            row = await agents.get(tx, run.agent)
            await services.questions.ask(
                tx,
                row,
                kind=issue_runs.USED_UP,
                cause=f"{run.id}/{run.round}",
                text=text.used_up(run, found.refusal),
                choices=(settle_step.GO_ON,),
                place=thread_of(run),
            )
        return None

    def _play(self, run_id: str, number: int) -> None:
        """Play a round, from its beginning or from where an earlier process was: recorded outcomes come at once."""
        key = run_id, number
        if key in self._played:
            return

        async def order(step: RoundStep) -> str:
            return await self.book.place(order_key(run_id, number, step), run_id, step.value)

        self._played[key] = task = asyncio.create_task(play_round(order), name=f"round {run_id}/{number}")
        task.add_done_callback(lambda done: self._is_over(key, done))

    def _is_over(self, key: tuple[str, int], task: asyncio.Task[str]) -> None:
        del self._played[key]
        self.round.services.intake.wake()
        # How it ended was written with the outcome of its last step.
        self.round.services.delivery.wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The next look plays it again.
            log.error("round.failed", run=key[0], round=key[1], exc_info=error)

    # --- orders -------------------------------------------------------------------------------------------------

    async def act(self, order: ForgeOrder) -> Acted | ActAgain:
        """Do what was ordered, or find it done.

        Raises:
            ForgeAway: the forge does not respond.
            RegisterError: the register cannot be used.
        """
        if order.kind == DESTROY:
            is_old = self.round.services.clock() - order.created_at >= GIVE_UP_S
            done = await Destroying(self.round).destroy(order.run, keeps=not is_old)
            self.look_again(order.run)
            return Acted(DONE) if done else ActAgain("Its agent is not gone yet.", _DESTROY_AGAIN_S)
        if order.kind not in set(RoundStep):
            return await self.other(order)
        run_id, number, step = place_of(order.key)
        async with self.round.services.store.read() as tx:
            run = await issue_runs.get(tx, run_id)
        if run is None or run.round != number or run.state not in ACTIVE:
            return Acted(STALE.get(step, DONE))
        try:
            if step is RoundStep.SETTLE and order.detail == INTERNAL and await self._is_hopeless(order, run, step):
                # Its last try failed where the outcome is written, so this one would, too.
                await self._tell_broken(run, text.failed(run, None, INTERNAL, self.round.services.redact))
                return _given_up(run, step, INTERNAL, state="failed", active_at=self.round.services.clock())
            acted = await self._act(run, step)
        except (ForgeAway, RegisterError):
            raise
        except ForgeError as error:
            if await self._is_hopeless(order, run, step):
                return _given_up(run, step, str(error))
            await self._tell(run, step, str(error))
            return ActAgain(str(error))
        except Exception as error:
            if is_away(error) or not await self._is_hopeless(order, run, step):
                raise
            log.exception("round.step_failed", run=run.id, step=step.value)
            return _given_up(run, step, INTERNAL)
        if isinstance(acted, Acted) and step is RoundStep.SETTLE:
            self.wake()
        return acted

    async def _is_hopeless(self, order: ForgeOrder, run: IssueRun, step: RoundStep) -> bool:
        """Return whether a step was tried for so long that it is given up."""
        now = self.round.services.clock()
        since = order.created_at
        if step is RoundStep.WORK:
            async with self.round.services.store.read() as tx:
                work = await self.round.work_of(tx, run)
            if work is not None:
                since = now if work.ended_at is None else work.ended_at  # an agent may work for long
        return now - since >= GIVE_UP_S

    async def _act(self, run: IssueRun, step: RoundStep) -> Acted | ActAgain:
        match step:
            case RoundStep.WORK:
                return await WorkStep(self.round).act(run)
            case RoundStep.PUBLISH:
                return await self.publish.act(run)
            case RoundStep.PROPOSE:
                return await ProposeStep(self.round).act(run)
            case RoundStep.RECORD:
                return await self.record.act(run)
            case RoundStep.SETTLE:
                return await SettleStep(self.round).act(run)

    async def _tell(self, run: IssueRun, step: RoundStep, why: str) -> None:
        """Say once in the run's thread that the forge refuses a step."""
        services = self.round.services
        async with services.store.write(TELL) as tx:
            await issue_runs.change(tx, run.id, only=ACTIVE, detail=why)
            await self.round.tell(
                tx, run, f"{run.round}/{step.value}/refused", text.forge_refused(run, why, services.redact)
            )
        services.delivery.wake()

    async def _tell_broken(self, run: IssueRun, words: str) -> None:
        """Say once in the run's thread, as far as that is possible, that something fails that nobody foresaw."""
        services = self.round.services
        try:
            async with services.store.write(TELL) as tx:
                await self.round.tell(tx, run, f"{run.round}/{run.state}/broken", words)
        except RegisterError:
            raise
        except Exception:
            log.exception("round.not_told", run=run.id)
        services.delivery.wake()

    async def _tell_unreadable(self, run_ids: Sequence[str]) -> None:
        """Say once in the fleet's room that rows are left out."""
        services = self.round.services
        for run_id in set(run_ids) - self._unreadable:
            log.error("round.unreadable", run=run_id)
            try:
                connector, room = services.main_room(None)
            except UserError:
                continue
            async with services.store.write(TELL) as tx:
                place = MessagePlace(connector, conversation=room)
                key = f"issue/{run_id}/unreadable"
                await services.agents.journal_effects.speak(tx, key, text.unreadable(run_id), place)
            services.delivery.wake()
        self._unreadable = set(run_ids)

    # --- decisions ----------------------------------------------------------------------------------------------

    async def _decided(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        return await settle_step.decided(tx, question, word, by=by, now=self.round.services.clock())

    async def _may_go_on(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        return "It goes on."

    async def _after_decision(self, question: Question, word: str) -> None:
        self.wake()


def _given_up(run: IssueRun, step: RoundStep, why: str, **values: object) -> Acted:
    async def also(tx: AsyncConnection) -> None:
        await issue_runs.change(tx, run.id, only=ACTIVE, detail=why, **values)

    return Acted(_GIVEN_UP[step], also)
