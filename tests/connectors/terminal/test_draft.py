from __future__ import annotations

from pathlib import Path

from connectors.terminal.draft import Begun, Draft


def test_a_line_is_kept_for_one_who_comes_next_and_an_empty_one_is_not(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "draft")
    assert draft.take() is None
    draft.keep(Begun("fleet", " \n"))
    assert draft.take() is None
    draft.keep(Begun("fleet/coder0", "half a \ud800\nline"))
    assert (tmp_path / "draft").stat().st_mode & 0o777 == 0o600
    assert draft.take() == Begun("fleet/coder0", "half a \ud800\nline")
    assert draft.take() is None


def test_what_cannot_be_read_or_written_is_nothing(tmp_path: Path) -> None:
    draft = Draft(tmp_path / "nowhere" / "draft")
    draft.keep(Begun("fleet", "hello"))
    assert draft.take() is None
    for words in ("", "[]", '{"text": "x"}'):
        (tmp_path / "draft").write_text(words)
        assert Draft(tmp_path / "draft").take() is None
