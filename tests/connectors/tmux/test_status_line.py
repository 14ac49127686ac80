"""tmux's own status line says how the fleet is, and runs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.contract.agent_count_feed import AgentCounts
from connectors.tmux.status_line import Sign
from tests.connectors.tmux.server import Server, until


@pytest.mark.parametrize("words", ["#(touch {0})", "#{{pid}}", "#[fg=red]", "a\nb", "\x1b]2;x", "`id`", "x" * 200])
def test_nothing_but_words_gets_there(words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not for a status line"):
        Sign(tmp_path, "%0").show(words.format(tmp_path / "ran"))


def test_outside_of_tmux_there_is_none() -> None:
    assert Sign.here({}) is None
    assert Sign.here({"TMUX": "/s,1,0", "TMUX_PANE": "%0 ; kill-server"}) is None


def test_it_shows_the_counts_where_the_pane_is_and_takes_them_along(tmux: Server) -> None:
    tmux.theirs()
    pane = tmux.panes("#{pane_id}")[0]
    sign = Sign.here({"TMUX": f"{tmux.socket},1,0", "TMUX_PANE": pane})
    assert sign is not None
    sign.start()
    counts = str(AgentCounts(working=3, waiting=1))
    sign.show(counts)
    until(lambda: tmux("show-options", "-v", "-t", "=theirs:", "@muster_fleet") == [counts])
    until(lambda: f"{pane} Muster: {counts}" in tmux.panes("#{pane_id} #{pane_title}"))
    tmux("new-window", "-d", "-t", "=theirs:", "sleep", "600")
    tmux("new-session", "-d", "-s", "other", "sleep", "600")
    tmux("join-pane", "-d", "-s", pane, "-t", "=other:")
    sign.show("Muster is not running")
    until(lambda: tmux("show-options", "-v", "-t", "=other:", "@muster_fleet") == ["Muster is not running"])
    until(lambda: tmux("show-options", "-v", "-t", "=theirs:", "@muster_fleet") == [])
    sign.end()
    assert tmux("show-options", "-v", "-t", "=other:", "@muster_fleet") == []
