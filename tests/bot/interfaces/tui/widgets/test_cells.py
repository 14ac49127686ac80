import random
import unicodedata

import pytest
from rich.cells import cell_len

from bot.interfaces.tui.widgets.cells import fitted, safe, width_of, wrapped

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "[bold]not bold[/bold] [@click=app.quit]click[/] [link=file:///etc/passwd]x[/link]",
    "rm -rf /\u202e gnp.exe \u2066x\u2069",
    "a\u200bb\ufeffc\u00add\U000e0041",
    "Z" + "\u0301" * 500 + "algo",
    "日本語のコマンド 👩\u200d💻 ❤\ufe0f",
    "tab\there\rthere\x00\x85\x9b",
    "\ud800 lone",
    "\ufdd0ps\ufdd1",
    "x" * 100_000,
    "あ" * 50_000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_or_hides_is_left(text: str) -> None:
    for sign in safe(text).replace("\n", ""):
        assert unicodedata.category(sign) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    marks = [unicodedata.combining(sign) > 0 for sign in safe(text)]
    assert not any(all(marks[at : at + 4]) for at in range(len(marks) - 4))


def test_what_is_hidden_is_shown_as_its_number() -> None:
    assert safe("rm \u202ex") == "rm ⟨U+202E⟩x"
    assert safe("\x1b[2J") == "␛[2J"
    assert safe("e\u0301 and a\u0300\u0301\u0302\u0303") == "e\u0301 and a\u0300\u0301\u0302⟨U+0303⟩"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [1, 2, 7, 80])
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, width: int) -> None:
    for right in (False, True):
        assert cell_len(fitted(text, width, right=right)) == width


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\n" not in text])
@pytest.mark.parametrize("width", [2, 9, 80])
def test_wrapping_leaves_nothing_out(text: str, width: int) -> None:
    line = safe(text)
    rows = wrapped(line, width)
    assert "".join(rows).replace(" ", "") == line.replace(" ", "")
    assert max(map(width_of, rows)) <= width


def test_wrapping_random_text_leaves_nothing_out() -> None:
    seed = random.randrange(1_000_000)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(500):
        line = "".join(rng.choice("ab  é日-/") for _ in range(rng.randrange(60)))
        width = rng.randrange(2, 20)
        rows = wrapped(line, width)
        assert "".join(rows).replace(" ", "") == line.replace(" ", "")
        assert all(width_of(row) <= width for row in rows)


def test_words_stay_whole_where_there_is_room() -> None:
    assert wrapped("The quick brown fox jumps", 12) == ["The quick ", "brown fox ", "jumps"]
    assert wrapped("", 5) == [""]
