"""The commands about reports, in a whole orchestrator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from bot.config.loader import check
from bot.config.paths import Paths
from bot.pacing.service import PaceService
from connectors.contract.messages import File, Message
from tests.bot.orchestrator import OPERATOR, ROOM, VIEWER, House, house
from tests.bot.pacing.fake_pace import SetPace

SETTINGS = """\
timezone: Europe/Vienna
schedules: {weekly: '0 9 * * mon', quiet: {from: 22:00, to: 07:00}, room: 'memory:room'}
"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, settings=SETTINGS) as made, made.open():
        yield made


def jobs(home: House) -> set[str]:
    return {record.name for record in home.orchestrator.jobs.records()}


async def test_schedules_are_set_shown_and_switched_off(home: House) -> None:
    shown = await home.ask("!schedules", sender=OPERATOR)
    assert "| weekly | 0 9 * * mon | Mon " in shown
    assert "09:00 | muster.yaml |" in shown
    assert "| daily | off | - | default |" in shown
    assert "Quiet hours: 22:00 to 07:00" in shown
    assert "Europe/Vienna" in shown
    said = await home.ask('!schedule set daily "30 8 * * 1-5"', sender=OPERATOR)
    assert "08:30" in said
    shown = await home.ask("!schedules", sender=OPERATOR)
    assert "| daily | 30 8 * * 1-5 |" in shown
    assert "08:30 | memory:@otto |" in shown
    assert "report daily" in jobs(home)
    await home.ask("!schedule off daily", sender=OPERATOR)
    assert "| daily | off | - | memory:@otto |" in await home.ask("!schedules", sender=OPERATOR)
    assert "report daily" not in jobs(home)
    assert "schedule clear daily" in await home.ask("!schedule off daily", sender=OPERATOR)
    assert "needs the permission operator" in await home.ask("!schedule off weekly", sender=VIEWER)
    assert "| weekly | 0 9 * * mon |" in await home.ask("!schedules", sender=OPERATOR)


async def test_what_the_file_says_can_be_had_back(home: House) -> None:
    await home.ask("!schedule off weekly", sender=OPERATOR)
    assert "report weekly" not in jobs(home)
    said = await home.ask("!schedule clear weekly", sender=OPERATOR)
    assert "What muster.yaml sets applies again: `0 9 * * mon` in Europe/Vienna, next Mon " in said
    assert "09:00 | muster.yaml |" in await home.ask("!schedules", sender=OPERATOR)
    assert "report weekly" in jobs(home)
    assert "No command had set it" in await home.ask("!schedule clear weekly", sender=OPERATOR)
    await home.ask('!schedule set daily "0 9 * * *"', sender=OPERATOR)
    assert "it is off." in await home.ask("!schedule clear daily", sender=OPERATOR)
    assert "report daily" not in jobs(home)
    await home.ask("!schedule off budget", sender=OPERATOR)
    assert "share of a window is passed" in await home.ask("!schedule clear budget", sender=OPERATOR)


REFUSED = {
    'daily "0 9 * * 8"': "day of the week",
    'daily "0 25 * * *"': "hour",
    'daily "0 9 30 2 *"': "no such day",
    'daily "soon"': "five fields",
    "daily off": "schedule off daily",
    "weekly on": "schedule clear weekly",
    'budget "0 9 * * *"': "schedule set budget on",
    'hourly "0 * * * *"': "daily, weekly, budget, fleet",
}


async def test_a_schedule_that_cannot_be_is_refused_with_the_way_out(home: House) -> None:
    for words, way_out in REFUSED.items():
        assert way_out in await home.ask(f"!schedule set {words}", sender=OPERATOR)
    assert "| daily | off | - | default |" in await home.ask("!schedules", sender=OPERATOR)


async def test_a_report_is_a_reply_with_a_picture_below_it(home: House) -> None:
    services = home.orchestrator.services
    pace = SetPace(services.clock, services.pace)
    services.pace = cast("PaceService", pace)
    pace.put("account:sim/5h", 0.4)
    said = await home.ask("!report budget", sender=OPERATOR)
    assert "| sim 5h | 40% |" in said.replace("🟢 ", "")
    await home.chat.until(lambda: [each for each in home.chat.said if isinstance(each.content, File)], limit=60)
    (picture,) = (each.content for each in home.chat.said if isinstance(each.content, File))
    shown = [each.content for each in home.chat.said if isinstance(each.content, File | Message)]
    text = next(place for place, each in enumerate(shown) if isinstance(each, Message) and "sim 5h" in each.text)
    assert text < shown.index(picture), "the text is read first"
    with Image.open(picture.path) as opened:
        assert opened.format == "PNG"


async def test_each_kind_can_be_asked_for(home: House) -> None:
    await home.launch("coder0", "--role", "coder")
    assert "**Daily report**" in await home.ask("!report", sender=OPERATOR)
    assert "**Weekly report**" in await home.ask("!report weekly", sender=OPERATOR)
    async with asyncio.timeout(60):
        # A busy machine's agent host may not answer in time, and the report says so.
        while "| coder0 | idle (protocol" not in (said := await home.ask("!report fleet", sender=OPERATOR)):
            assert "| coder0 | unknown" in said
    assert "nothing is paced" in await home.ask("!report budget", sender=OPERATOR)


async def test_what_is_due_is_posted_into_the_room_by_itself(tmp_path: Path) -> None:
    async with house(tmp_path, settings="schedules: {room: 'memory:room'}\n") as home, home.open() as orchestrator:
        await home.ask('!schedule set fleet "* * * * *"', sender=OPERATOR)
        assert "report fleet" in jobs(home)
        await orchestrator.services.reports.sweep(orchestrator.services.clock() + 60)
        assert "has no agents" in await home.heard(ROOM, "The fleet")


async def test_a_changed_schedule_is_taken_up_without_a_restart(home: House) -> None:
    written = home.paths.muster_yaml.read_text()
    home.paths.muster_yaml.write_text(written.replace("weekly: '0 9 * * mon'", "weekly: '0 10 * * tue'"))
    assert "muster.yaml was applied: schedules of reports." in await home.ask("!roster apply")
    assert "| weekly | 0 10 * * tue | Tue " in await home.ask("!schedules", sender=OPERATOR)


# --- muster.yaml -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("daily: '0 9 * *'", "muster.yaml:1:13: schedules.daily: '0 9 * *' is no schedule: it has 4 fields."),
        ("daily: 9", "schedules.daily"),
        ("quiet: {from: '22:00', to: '22:00'}", "schedules.quiet: from and to are the same"),
        ("quiet: {from: '24:00', to: '07:00'}", "schedules.quiet.from: found '24:00'"),
        ("quiet: {from: '22:00'}", "schedules.quiet.to"),
        ("room: nowhere", "schedules.room: found 'nowhere'"),
        ("room: 'matrx:!a:example.org'", "schedules.room: no connector is called 'matrx'."),
        ("hourly: '0 * * * *'", "schedules.hourly"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, written: str, found: str) -> None:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.muster_yaml.write_text(f"schedules: {{{written}}}\n")
    problems = [str(problem) for problem in check(paths).problems]
    assert any(found in problem for problem in problems), problems


def test_times_without_quotes_are_times(tmp_path: Path) -> None:
    """YAML takes them for numbers to the base of 60."""
    paths = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    paths.muster_yaml.write_text("schedules: {quiet: {from: 22:30, to: 7:05}}\n")
    settings = check(paths).settings
    assert settings is not None
    quiet = settings.schedules.quiet
    assert quiet is not None
    assert (f"{quiet.from_:%H:%M}", f"{quiet.to:%H:%M}") == ("22:30", "07:05")
