"""Pictures of windows: drawn by a process of its own, within bounds, and of whatever words there are."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bot.figures.model import Figure, Panel
from bot.read_models.limits import WindowPace, WindowProjection
from bot.reports import chart_example
from bot.reports.chart import figure_of
from bot.reports.chart_subprocess import LARGEST, ChartSubprocess
from budget.windows.even_spread_line import LastSeen
from tests.bot.reports.poster import ZONE, at

BEGIN, END = at("2026-11-23 00:00"), at("2026-11-30 00:00")
NOW = at("2026-11-26 09:00")


def week(key: str = "account:main/7d", used: float | None = 0.4, **said: object) -> WindowPace:
    plain: dict[str, object] = {
        "key": key, "scope": key.split("/")[0], "unit": "share", "limit": 1.0, "used": used, "reserved": 0.0,
        "line": 0.48, "begins_at": BEGIN, "resets_at": END, "certainty": "provider",
        "use": ((BEGIN, 0.0), (NOW, used or 0.0)),
        "even": ((BEGIN, 0.0), (END, 1.0)), "projection": WindowProjection(expected=0.9, low=0.8, high=1.1),
    }  # fmt: skip
    return WindowPace(**{**plain, **said})  # type: ignore[arg-type]


def figure(*windows: WindowPace) -> Figure:
    made = figure_of(windows, ZONE, NOW)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> ChartSubprocess:
    return ChartSubprocess(folder=tmp_path_factory.mktemp("drawing"), environ=os.environ, limit_s=110.0)


async def test_four_windows_are_a_small_picture_that_a_phone_shows(painter: ChartSubprocess) -> None:
    made = await painter.picture(figure(*(week(f"account:a{number}/7d") for number in range(9))))
    assert made is not None
    assert len(made) < LARGEST
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.width == 1440
        # Ink and ground are in it, so that it looks the same on light and on dark.
        assert picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
        light = sorted(picture.convert("L").tobytes())
    assert light[0] < 60, "dark ground"
    assert light[-1] > 220, "light ink"


async def test_words_are_never_markup(painter: ChartSubprocess) -> None:
    """What is no XML would otherwise be an error, and no picture at all."""
    hostile = Panel(
        title="<script>&", note="]]></text>&nope;", length=10.0, now=5.0, used=[(0.0, 0.0), (5.0, 40.0)],
        even=[(0.0, 0.0), (10.0, 100.0)], band=None, ticks=[(1.0, "</svg>"), (2.0, "\x1b[31m")],
    )  # fmt: skip
    assert await painter.picture(Figure(panels=[hostile])) is not None


async def test_a_terminal_gets_letters_without_any_sequences(painter: ChartSubprocess) -> None:
    made = await painter.letters(figure(week(), week("account:main/5h", used=0.9)))
    assert made is not None
    assert all(len(line) <= 80 for line in made.splitlines())
    assert not [char for char in made if unicodedata.category(char).startswith("C") and char != "\n"]
    assert "main 7d" in made
    assert "40% used, line 48%" in made
    assert "⠒" in made
    assert "░" in made


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("raise SystemExit(3)", id="it fails"),
        pytest.param("print('no picture')", id="it draws something else"),
        pytest.param("import sys; sys.stdout.buffer.write(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(400_000))", id="too large"),
        pytest.param("import time; time.sleep(600)", id="it hangs"),
        pytest.param("import os; os.kill(os.getpid(), 9)", id="it is killed"),
    ],
)
async def test_what_cannot_be_drawn_is_no_picture(tmp_path: Path, program: str) -> None:
    painter = ChartSubprocess(folder=tmp_path, environ=os.environ, program=(sys.executable, "-c", program), limit_s=2.0)
    assert await painter.picture(figure(week())) is None


async def test_what_draws_learns_no_secret_of_ours(tmp_path: Path) -> None:
    program = "import os, sys; sys.stdout.write(repr(sorted(os.environ)))"
    environ = {**os.environ, "ANTHROPIC_API_KEY": "sk-1", "FONTCONFIG_FILE": "/tmp", "PYTHONPATH": "/tmp"}
    painter = ChartSubprocess(folder=tmp_path, environ=environ, program=(sys.executable, "-c", program))
    said = await painter.letters(figure(week()))
    assert said is not None
    assert "HOME" in said
    assert not {"ANTHROPIC_API_KEY", "FONTCONFIG_FILE", "PYTHONPATH"} & set(eval(said))


# --- what is drawn -----------------------------------------------------------------------------------------------


def test_windows_of_which_nothing_is_known_are_not_drawn() -> None:
    unknown = [week(used=None), week(begins_at=None), week(resets_at=NOW - 1), week(limit=0.0)]
    assert figure_of(unknown, ZONE, NOW) is None


def test_those_that_nobody_used_leave_the_room_to_others() -> None:
    drawn = figure(week("account:idle/7d", used=0.0), week("account:main/7d"))
    assert [panel.title for panel in drawn.panels] == ["main 7d"]


def test_what_is_beyond_all_bounds_stays_on_the_picture() -> None:
    beyond = WindowProjection(expected=0.9, low=0.8, high=1e9)
    (panel,) = figure(week(used=900.0, projection=beyond, use=((BEGIN, -1.0), (NOW, 900.0)))).panels
    assert max(amount for _, amount in panel.used) == 150
    assert min(amount for _, amount in panel.used) == 0
    assert panel.band is not None
    assert panel.band[2] == 150


@pytest.mark.parametrize(
    ("begin", "end", "first", "most"),
    [
        ("2026-11-23 00:00", "2026-11-30 00:00", "Tue", 7),
        ("2026-11-01 00:00", "2026-12-01 00:00", "2 Nov", 6),
        ("2026-11-26 06:30", "2026-11-26 11:30", "07:00", 6),
        ("2026-11-26 00:00", "2026-11-27 00:00", "06:00", 5),
        # The day has 25 hours.
        ("2026-10-25 00:00", "2026-10-26 00:00", "06:00", 5),
    ],
)
def test_the_time_is_written_in_the_operators_zone(begin: str, end: str, first: str, most: int) -> None:
    begins, ends = at(begin), at(end)
    middle = (begins + ends) / 2
    made = figure_of([week(begins_at=begins, resets_at=ends, use=())], ZONE, middle)
    assert made is not None
    labels = [label for _, label in made.panels[0].ticks]
    assert labels[0] == first
    assert 2 <= len(labels) <= most


def test_the_documentation_shows_what_is_drawn_by_now() -> None:
    shown = Path(__file__).parents[3] / "docs" / "pictures" / "report.png"
    with Image.open(shown) as picture:
        assert picture.width == 1440
    assert shown.stat().st_size < LARGEST
    assert [panel.title for panel in chart_example.figure().panels] == ["main 5h", "main 7d"]


def test_the_orchestrator_loads_nothing_that_draws() -> None:
    program = (
        "import sys, bot.app.orchestrator, bot.reports.commands_service, bot.commands.sections as sections; "
        "sections.load();"
        "sys.exit(bool({'plotext', 'resvg_py'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


async def test_a_window_that_was_not_seen_for_long_is_drawn_as_far_as_it_is_known(painter: ChartSubprocess) -> None:
    seen = LastSeen(at=NOW - 9 * 3_600, used=0.38, tokens_since=1_200_000)
    quiet = week(
        used=None, at_least=0.41, outdated_at=seen.at, outdated_used=seen.used, projection=None,
        use=((BEGIN, 0.0), (seen.at, 0.38), (NOW, 0.41)),
    )  # fmt: skip
    (panel,) = figure(quiet).panels
    assert panel.note == "at least 41% used, line 48%"
    assert panel.used[-1] == (seen.at - BEGIN, 38.0)
    assert panel.since == [(seen.at - BEGIN, 38.0), (NOW - BEGIN, 41.0)]
    assert await painter.picture(figure(quiet)) is not None
    letters = await painter.letters(figure(quiet))
    assert letters is not None
    assert "? at least so much" in letters
    assert "?" in letters.split("? at least so much")[0]
    # Of one that began anew unseen all is open from its beginning on.
    (panel,) = figure(replace(quiet, at_least=None, outdated_at=BEGIN - 60, outdated_used=None, use=())).panels
    assert panel.note == "use not known, line 48%"
    assert panel.since == [(0.0, 0.0), (NOW - BEGIN, 0.0)]
