"""Pulling the plug: every process is killed, at every place and at any moment, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import tests
from conduit import setup_record
from fleet.sandbox import selection
from fleet.sim.provider.server import Provider
from tests import waiting
from tests.bot.issue_runs.agent_tools import test_writes
from tests.conduit import test_provision_killed
from tests.crash import test_matrix
from tests.crash.deaths import both
from tests.egress.ledger import test_service_killed
from tests.forge.publishing import test_mirror
from tests.synapse import Synapse
from tests.system import crash_places, scenarios, test_issue_runs_killed, topic_scenes
from tests.system.installation import LIMIT
from tests.system.kill_stages import staged
from tests.system.matrix_installation import Installation, installation
from tests.system.scenarios import Scene, Stage

pytestmark = pytest.mark.synapse


#: Which scene passes which places of the orchestrator.
SCENES: dict[Scene, tuple[str, ...]] = {
    scenarios.life: both(
        "inbox.accept",
        "command.accept",
        "command.step",
        "command.finish",
        "roster.write",
        "agent.spawn",
        "journal.follow",
        "outbox.record",
        "outbox.send",
        "chat.talk",
        "message.hand_over",
        "message.handed_over",
        "outlet.copied",
        "session.leased",
    ),
    scenarios.talk: both(
        "message.edited", "chat.react", "approval.answer", "approval.answered", "chat.remark", "chat.withdraw"
    ),
    scenarios.ruled: both("rules.push"),
    scenarios.by_other_doors: both("chat.turn_away"),
    scenarios.killing: both("command.confirm", "agent.killed"),
    scenarios.gone: both("agent.gone", "agent.fell", "agent.revive"),
    scenarios.frozen: both("agent.custody"),
    scenarios.failed_start: both("agent.spawn_failed"),
    scenarios.neglected: both("watchdog.tell"),
    scenarios.watched: both("watch.update"),
    scenarios.queued_work: both("task.dispatch", "task.waits", "task.refuse", "task.settle"),
}


#: Which scene about topics passes which places of theirs, and which of those that other scenes pass otherwise; both in
#: the order in which they are passed.
TOPICS: dict[Scene, tuple[str, ...]] = {
    topic_scenes.topics: both(
        "topics.add", "topics.begin", "topics.add_words", "topics.idle", "topics.wake", "topics.end"
    ),
    topic_scenes.topic_in_hand: both("topics.follow"),
    topic_scenes.topic_that_cannot_begin: both("topics.note"),
    topic_scenes.project_with_new_room: (),
}
TOPICS_PASS: dict[Scene, tuple[str, ...]] = {
    topic_scenes.topics: both(
        "inbox.accept",
        "outbox.send",
        "outbox.record",
        "workspace.make",
        "agent.spawn",
        "message.hand_over",
        "message.handed_over",
        "journal.follow",
        "command.accept",
        "command.step",
        "command.finish",
        "workspace.remove",
        "chat.talk",
        "chat.react",
        "workspace.collect",
        "workspace.merge",
    ),
    topic_scenes.topic_in_hand: both("topics.add", "topics.begin", "command.step", "command.finish", "topics.end"),
    topic_scenes.topic_that_cannot_begin: both("topics.add", "command.step", "command.finish"),
    topic_scenes.project_with_new_room: (
        # It is checked, its repository is found, its room is made, and it is written.
        *(f"command.step.{side}:{n}" for n in (1, 2, 3, 4) for side in ("before", "after")),
        *both("muster_yaml.write", "command.finish", "topics.add", "topics.begin", "topics.end"),
    ),
}


#: Which scene passes which places in an agent's call of Muster's own tools.
CALLS: dict[Scene, tuple[str, ...]] = {
    scenarios.words_by_tool: both("call.take_up", "call.act", "call.answer", "call.close"),
    scenarios.launched_by_tool: both("call.begin"),
    scenarios.too_many_words_by_tool: both("peers.settle"),
}
#: And which of those that other scenes pass otherwise.
CALLS_PASS: dict[Scene, tuple[str, ...]] = {
    scenarios.words_by_tool: both("message.hand_over", "message.handed_over"),
    scenarios.launched_by_tool: both(
        "command.accept", "command.step", "roster.write", "command.finish", "agent.spawn", "call.answer", "call.close"
    ),
    scenarios.too_many_words_by_tool: (),
}


#: Places that no script of an operator passes in seconds, and the test that is about each; or tests.crash.test_matrix.
APART: dict[str, tuple[str, ...]] = {
    "test_an_installation_dies_while_it_is_made": both("register.migrate", "register.create", "register.hold"),
    "test_the_bot_dies_and_comes_back_as_another_device": both("outbox.restamp"),
    # Every hour.
    "test_dying_while_old_things_are_forgotten": both("chat.sweep", "commands.forget", "requests.forget"),
    # Sums that are wrong: tests/bot/maintenance/test_ledger_recount.py.
    "test_killed_at_this_place_a_day_has_its_old_sums_or_right_ones": both("spending.recount"),
    # Only the terminal keeps a transcript.
    "test_the_terminal_dies_at_every_place": both("transcript.write", "transcript.compact"),
    # The program in a pane of tmux keeps what is typed: tests/bot/interfaces/cli/test_tmux_room_pane.py.
    "test_what_is_typed_is_heard_once_wherever_its_program_dies": both("unsaid.keep", "unsaid.drop"),
    # Where rooms are encrypted: tests/connectors/matrix/test_encryption_killed.py.
    "test_killed_at_this_place_the_encrypting_bot_says_everything_once": both("matrix.keys", "matrix.hand_out"),
    # Only a fault in Muster itself makes it give an event up: tests/connectors/delivery/test_service_killed.py has one.
    # What Discord took is written down: tests/connectors/discord/test_killed.py.
    "test_killed_at_this_place_everything_stands_once": both("inbox.give_up", "discord.sent"),
    # While nothing else runs: tests/database/engine/test_database_copy.py.
    "test_killed_at_this_place_all_was_copied_or_nothing": both("register.copy"),
    # Agents in repositories: tests/fleet/workspace/test_killed.py.
    "test_killed_at_this_place_no_half_of_a_clone_is_taken_for_one": both(
        "workspace.make", "workspace.collect", "workspace.remove", "workspace.merge"
    ),
    # While nothing else runs: tests/bot/maintenance/backup/test_backup_and_restore.py.
    "test_killed_at_this_place_a_backup_is_there_or_not": both("backup.write"),
    "test_killed_at_every_place_a_restore_is_done_or_undone": both(
        "restore.settle", "restore.plan", "restore.move", "restore.decide"
    ),
    "test_killed_at_this_place_a_server_knows_whether_it_is_done": both("register.replace"),
    "test_killed_at_this_place_a_version_is_whole_or_gone": both("update.install"),
    # Where a window has a line to draw: tests/bot/pacing/test_kept.py.
    "test_killed_at_this_place_a_line_is_drawn_once": both("pace.kept"),
    # Where one stands by for another: tests/bot/leadership/test_standby_registry.py.
    "test_killed_at_this_place_who_stands_by_is_named_once": both("standby.note"),
    # Where one chat system of several is out: tests/bot/monitoring/test_connector_outages.py.
    "test_killed_at_this_place_an_outage_is_told_once": both("outage.tell"),
    # A command changes muster.yaml: tests/bot/projects/test_edit.py.
    "test_killed_at_this_place_muster_yaml_is_the_old_one_or_the_new_one": both("muster_yaml.write"),
    # Where threads have names: tests/bot/messaging/test_thread_lifecycle.py.
    "test_killed_at_this_place_a_thread_is_renamed_once": both("titles.sweep"),
    "test_killed_at_this_place_a_thread_is_put_away_again": both("titles.wake", "titles.put_away"),
    # Slash commands and buttons on Discord: tests/connectors/discord/interactions/test_commands_killed.py,
    # test_presses_killed.py.
    "test_killed_at_each_place_a_press_counts_once": both("discord.interaction"),
    # Once a day, where it is switched on: tests/bot/telemetry/test_telemetry_killed.py.
    "test_killed_at_this_place_what_goes_goes_once_a_day": both("telemetry.taken"),
    # Where traces are sent: tests/bot/traces/test_traces_killed.py.
    "test_killed_at_this_place_no_span_is_lost_or_another": both("traces.begin", "traces.sent"),
    # While an installation is set up: tests/conduit/test_provision_killed.py.
    "test_a_killed_run_is_gone_on_with": both(*test_provision_killed.STEPS, setup_record.KEEP),
    # Of writes of agents that work on issues: tests/bot/issue_runs/agent_tools/test_writes.py.
    "test_killed_at_this_place_an_agent_s_comment_is_posted_once": test_writes.PLACES,
    # Of issues that become pull requests: tests/system/test_issue_runs_killed.py.
    "test_an_issue_is_picked_up_once_and_a_refusal_posted_once": test_issue_runs_killed.PICKING_UP,
    "test_a_round_goes_on_and_does_nothing_twice": test_issue_runs_killed.ROUND,
    "test_a_run_whose_pull_request_is_closed_is_gone_once": test_issue_runs_killed.CLOSING,
    "test_what_a_webhook_told_counts_once": test_issue_runs_killed.RECEIVING,
    "test_trouble_with_the_forge_is_told_once": test_issue_runs_killed.TROUBLE,
    "test_that_the_forge_refuses_a_step_is_told_once": test_issue_runs_killed.REFUSED,
    "test_a_run_whose_agents_name_was_taken_gets_another_once": test_issue_runs_killed.RENAMED,
    "test_that_commits_of_a_broken_clone_are_lost_is_told_once": test_issue_runs_killed.LOST,
    "test_the_work_of_a_silent_agent_is_ended_once": test_issue_runs_killed.SILENT,
    # Of Muster's copies of a forge's repositories: tests/forge/publishing/test_mirror.py.
    "test_killed_at_this_place_the_next_attempt_succeeds": test_mirror.PLACES,
    # Of the egress: tests/egress/ledger/test_service_killed.py.
    "test_a_writer_that_dies_at_a_place": test_service_killed.PLACES,
}


async def kill_at(stage: Stage, scene: Scene, crashes: Sequence[str]) -> None:
    """Play a scene, again and again, until the orchestrator has died at each of these places."""
    await stage.home.kill()
    await stage.home.killed_at(crashes, scene.__name__, lambda: stage.play(scene))


def test_every_place_has_its_test() -> None:
    tables = (SCENES, TOPICS, CALLS, APART)
    listed = [place for table in tables for some in table.values() for place in some]
    assert len(listed) == len(set(listed))
    assert {*listed, *test_matrix.visited()} == crash_places.outside_of_agent_hosts()


def test_every_test_of_a_place_exists() -> None:
    sources = [file.read_text() for file in Path(tests.__file__).parent.rglob("test_*.py")]
    written = {name for source in sources for name in re.findall(r"^(?:async )?def (test_\w+)", source, re.MULTILINE)}
    assert APART.keys() <= written


@pytest.mark.slow
async def test_the_orchestrator_dies_at_some_places(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await kill_at(stage, scenarios.life, rng.sample(SCENES[scenarios.life], 4))
        await kill_at(stage, scenarios.talk, rng.sample(SCENES[scenarios.talk], 2))
        await stage.set_up_lead()
        await kill_at(stage, scenarios.words_by_tool, rng.sample(CALLS[scenarios.words_by_tool], 1))


@pytest.mark.soak
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_the_orchestrator_dies_at_every_place(
    tmp_path: Path, synapse: Synapse, models: Provider, scene: Scene
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await kill_at(stage, scene, SCENES[scene])


@pytest.mark.slow
async def test_the_orchestrator_dies_while_topics_come_and_go(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        places = TOPICS[topic_scenes.topics]
        await kill_at(stage, topic_scenes.topics, sorted(rng.sample(places, 2), key=places.index))
        making = topic_scenes.project_with_new_room
        await kill_at(stage, making, rng.sample(TOPICS_PASS[making], 1))


@pytest.mark.soak
@pytest.mark.parametrize("scene", TOPICS, ids=lambda scene: scene.__name__)
async def test_the_orchestrator_dies_at_every_place_of_topics(
    tmp_path: Path, synapse: Synapse, models: Provider, scene: Scene
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        await kill_at(stage, scene, (*TOPICS[scene], *TOPICS_PASS[scene]))


@pytest.mark.soak
@pytest.mark.parametrize("scene", CALLS, ids=lambda scene: scene.__name__)
async def test_the_orchestrator_dies_in_an_agents_call(
    tmp_path: Path, synapse: Synapse, models: Provider, scene: Scene
) -> None:
    launches = scene is scenarios.launched_by_tool
    if launches and not selection.available().works:
        pytest.skip("bubblewrap does not work here, and agents launch no others without it")
    agents = {
        "runtime": "sim",
        "sandbox": "bubblewrap" if launches else "none",
        "heartbeat": "1s",
        "messages_per_minute": 1 if scene is scenarios.too_many_words_by_tool else 1000,
    }
    async with staged(tmp_path, synapse, models, agents=agents) as stage:
        await stage.set_up_lead()
        await kill_at(stage, scene, (*CALLS[scene], *CALLS_PASS[scene]))


@pytest.mark.soak
async def test_the_orchestrator_dies_at_every_step_of_freezing_and_resuming(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        # One step of `freeze`, two of `resume`.
        await kill_at(stage, scenarios.frozen, [f"{place}:{n}" for n in (1, 2, 3) for place in both("command.step")])


@pytest.mark.soak
async def test_the_orchestrator_dies_at_every_step_of_adding_a_task(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    """The answer opens the task's thread, and is completed by what became of the command."""
    async with staged(tmp_path, synapse, models) as stage:
        steps = ("command.accept", "command.step", "command.finish", "outbox.send", "outbox.record")
        await kill_at(stage, scenarios.queued_work, both(*steps))


# --- places of their own -------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_an_installation_dies_while_it_is_made(tmp_path: Path, synapse: Synapse, models: Provider) -> None:
    crashes = APART["test_an_installation_dies_while_it_is_made"]
    async with installation(tmp_path, synapse, models) as home:
        async with home.revived(crashes) as deaths:
            await home.joined()
            assert "No agent runs" in await home.ask("!ps")
        assert deaths == list(crashes)


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.slow
@pytest.mark.parametrize("arrived", [False, pytest.param(True, marks=pytest.mark.soak)])
async def test_the_bot_dies_and_comes_back_as_another_device(
    tmp_path: Path, synapse: Synapse, models: Provider, arrived: bool
) -> None:
    """Homeservers recognise what they were sent before only from the same device."""
    async with staged(tmp_path, synapse, models) as stage:
        home, books = stage.home, stage.books
        place = "outbox.send.after" if arrived else "outbox.send.before"
        async with home.revived([place], pause=for_ever) as deaths:
            asked = await books.command("!ps")
            await waiting.until(lambda: deaths, limit=LIMIT)
            home.bot = await synapse.log_in(home.bot)
        await home.kill()
        # What arrived is found, and stands as it is; what did not is stamped for the new device.
        crashes = () if arrived else APART["test_the_bot_dies_and_comes_back_as_another_device"]
        async with home.revived(crashes) as deaths:
            await home.reply(asked)
        assert deaths == list(crashes)


@pytest.mark.soak
async def test_dying_while_old_things_are_forgotten(tmp_path: Path, synapse: Synapse, models: Provider) -> None:
    async with staged(tmp_path, synapse, models) as stage:
        home, books = stage.home, stage.books
        await home.start()
        await books.done(await books.message(stage.thread))
        await books.settled()
        assert await home.stop() == 0
        for crash in (*APART["test_dying_while_old_things_are_forgotten"], None):
            status = await _forget(home, days=60, crash=crash)
            assert status == (0 if crash is None else -signal.SIGKILL), crash
        with books.register() as register:
            assert register.execute("SELECT count(*) FROM inbox WHERE body IS NOT NULL").fetchone() == (0,)
            assert register.execute("SELECT count(*) FROM inbox").fetchone() != (0,), "keys are kept for longer"


_FORGET = """
import asyncio, os, time
from bot.config.paths import Paths
from bot.maintenance import retention_job
from database.engine.store import Store

async def main(days):
    paths = Paths.of(os.environ)
    store = await Store.open(paths.register_url)
    await retention_job.sweep(store, paths, lambda: time.time() + days * 86400)
    await store.close()

asyncio.run(main({days}))
"""


async def _forget(home: Installation, *, days: int, crash: str | None) -> int:
    """Run the hourly job as if so many days had gone by; its exit status."""
    program = _FORGET.replace("{days}", str(days))
    environment = home.environment(**({"MUSTER_CRASH": crash} if crash is not None else {}))
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", program, env=environment)
    async with asyncio.timeout(LIMIT):
        return await process.wait()
