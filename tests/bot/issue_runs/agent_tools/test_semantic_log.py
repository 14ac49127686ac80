from __future__ import annotations

from bot.issue_runs.agent_tools.semantic_log import MOST_LINES, MOST_WITHOUT_EFFECT, with_line


def test_an_agent_cannot_crowd_out_what_it_wrote() -> None:
    lines = ["posted a comment on #17"]
    for number in range(5_000):
        lines = with_line(lines, f"refused a comment on #{number}: out of scope")
    lines = with_line(lines, "posted a comment on #18")
    assert lines[0] == "posted a comment on #17"
    assert "posted a comment on #18" in lines
    assert lines[-1] == f"{5_000 - MOST_WITHOUT_EFFECT} more reads and refusals"
    assert len(lines) <= MOST_LINES


def test_what_is_read_again_stands_once() -> None:
    lines = with_line(with_line(with_line([], "read #17"), "read #18"), "read #17")
    assert lines == ["read #17", "read #18"]


def test_each_write_stands_there() -> None:
    assert with_line(["posted a comment on #17"], "posted a comment on #17") == ["posted a comment on #17"] * 2
