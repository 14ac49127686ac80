"""What was typed and not taken yet is kept in its order, and gone once it was taken."""

from __future__ import annotations

import stat
from pathlib import Path

from connectors.terminal.pending_input import Typed, Unsaid


def typed(number: int, text: str = "hello") -> Typed:
    return Typed(id=f"said-{number}", conversation="fleet", text=text)


def test_it_is_kept_in_its_order_also_when_the_clock_is_set_back(tmp_path: Path) -> None:
    times = iter([50, 10, 10])
    unsaid = Unsaid(tmp_path / "unsaid", clock=lambda: next(times))
    for number in (3, 1, 2):
        unsaid.keep(typed(number))
    assert [each.id for each in Unsaid(tmp_path / "unsaid").all()] == ["said-3", "said-1", "said-2"]
    unsaid.drop("said-1")
    unsaid.drop("said-9")
    assert [each.id for each in Unsaid(tmp_path / "unsaid").all()] == ["said-3", "said-2"]


def test_any_text_comes_back_and_nobody_else_reads_it(tmp_path: Path) -> None:
    unsaid = Unsaid(tmp_path / "unsaid")
    odd = "a\nb\x00\x1b[31m\ud800 ✓"
    unsaid.keep(typed(1, odd))
    assert unsaid.all() == [typed(1, odd)]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "unsaid").iterdir()] == [0o600]
    assert stat.S_IMODE((tmp_path / "unsaid").stat().st_mode) == 0o700


def test_what_is_no_message_is_passed_over(tmp_path: Path) -> None:
    unsaid = Unsaid(tmp_path)
    unsaid.keep(typed(1))
    for name, text in (("1.json", "{"), ("2.json", "[]"), ("3.json", '{"id": 1, "conversation": "a", "text": "b"}')):
        (tmp_path / name).write_text(text)
    (tmp_path / "4.json").mkdir()
    assert unsaid.all() == [typed(1)]
