"""What is said arrives whole, within what the chat system takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.messaging.composer import Composer, MessagePlace, beginning, pieces
from connectors.contract.messages import Capabilities, Emphasis, File, Message, Outbound, Priority, Replace

PLACE = MessagePlace("matrix", conversation="!room")
MARKDOWN = st.lists(
    st.one_of(
        st.sampled_from(["", "```", "```py", "````", "~~~", "  ```sh", "``` a`b", "`inline`", "- item", "   "]),
        st.text("abc `~\n", max_size=120),
    ),
    max_size=30,
).map("\n".join)


def speaker(tmp_path: Path) -> Composer:
    return Composer(tmp_path / "files")


def texts(outbounds: list[Outbound]) -> list[str]:
    return [each.content.text for each in outbounds if isinstance(each.content, Message)]


def open_fence(piece: str) -> str | None:
    """The marks of the fenced block that a piece leaves open (CommonMark 0.31, section 4.5)."""
    marks: str | None = None
    for line in piece.split("\n"):
        found = re.fullmatch(r"\s*(`{3,}|~{3,})\s*(.*?)\s*", line)
        if found is None:
            continue
        if marks is None:
            marks = found[1] if not (found[1][0] == "`" and "`" in found[2]) else None
        elif found[1].startswith(marks) and not found[2]:
            marks = None
    return marks


def without_fences(text: str) -> str:
    lines = (line for line in text.split("\n") if not re.match(r"\s*(```|~~~)", line))
    return "".join("".join(lines).split())


@given(MARKDOWN, st.integers(64, 400))
def test_no_piece_is_longer_than_the_limit(markdown: str, limit: int) -> None:
    assert all(len(piece) <= limit for piece in pieces(markdown, limit))


@given(st.lists(st.text("abcdef ", max_size=60), max_size=30).map("\n".join), st.integers(64, 200))
def test_pieces_of_plain_text_lose_no_character(markdown: str, limit: int) -> None:
    bare = markdown.replace("\n", "").replace(" ", "")
    assert "".join(pieces(markdown, limit)).replace("\n", "").replace(" ", "") == bare


@given(MARKDOWN.filter(lambda text: all(len(line) < 100 for line in text.split("\n"))), st.integers(160, 400))
def test_pieces_of_code_lose_no_line(markdown: str, limit: int) -> None:
    assert without_fences("\n".join(pieces(markdown, limit))) == without_fences(markdown)


@given(MARKDOWN, st.integers(160, 400))
def test_a_block_that_is_cut_is_closed_and_opened_again(markdown: str, limit: int) -> None:
    result = pieces(markdown, limit)
    assert all(open_fence(piece) is None for piece in result[:-1])


def test_a_cut_block_goes_on_in_its_language() -> None:
    first, second = pieces("````python\n" + "x = 1\n```\n" * 8 + "````\nthe end", 80)
    assert first.startswith("````python\nx = 1\n```\n")
    assert first.endswith("\n````")
    assert second.startswith("````python\n")
    assert second.endswith("\n````\nthe end")


def test_a_line_that_is_too_long_is_cut_without_breaking_out_of_its_block() -> None:
    result = pieces("```\n" + "y" * 1000 + "\n```", 100)
    assert all(piece.startswith("```\ny") and piece.endswith("y\n```") for piece in result)
    assert "".join(result).count("y") == 1000


def test_nobody_is_sent_an_empty_message() -> None:
    assert all(piece.strip() for piece in pieces("a" + "\n" * 1000 + "b", 64))


@pytest.mark.parametrize("piece", ["`" * 5000, "```\n", "\n", "a", "~" * 70, "``` ", "```" + "x" * 90 + "\n", "a```"])
def test_nobody_can_make_cutting_slow_or_endless(piece: str) -> None:
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    assert all(len(each) <= 800 for each in pieces(text, 800))
    assert len(beginning(text, 800)) <= 800


@given(MARKDOWN, st.integers(200, 1000))
def test_a_beginning_is_short_and_leaves_no_block_open(markdown: str, limit: int) -> None:
    head = beginning(markdown * 3, limit)
    assert len(head) <= limit
    assert open_fence(head) is None
    assert head.endswith("… the whole text is in the file.")


def test_a_short_text_is_one_message(tmp_path: Path) -> None:
    (outbound,) = speaker(tmp_path).say("k", "*hello*", PLACE, Capabilities(files=True, html=True), reply_to="$1")
    assert outbound.key == "k"
    assert isinstance(outbound.content, Message)
    assert (outbound.content.html, outbound.content.reply_to) == ("<p><em>hello</em></p>", "$1")


def test_without_html_a_text_may_fill_the_message(tmp_path: Path) -> None:
    can = Capabilities(files=True, edits=True, max_text=2000)
    say = speaker(tmp_path)
    assert texts(say.say("k", "a" * 2000, PLACE, can)) == ["a" * 2000]
    (replacement,) = say.replace("k/2", "k", "a" * 2000, PLACE, can, priority=Priority.FINAL, final=True)
    assert isinstance(replacement.content, Replace)
    assert replacement.content.message == Message(text="a" * 2000, emphasis=Emphasis.TEXT)


def test_a_long_text_is_a_beginning_and_a_file_of_its_own(tmp_path: Path) -> None:
    text = "line\n" * 1000 + "\x1bend"
    head, attached = speaker(tmp_path).say("t/a-b/1/said", text, PLACE, Capabilities(files=True, max_text=2000))
    assert len(texts([head])[0]) < 800
    assert isinstance(attached.content, File)
    path = Path(attached.content.path)
    assert path.read_text("utf-8") == "line\n" * 1000 + "␛end"
    assert path.stat().st_mode & 0o077 == 0
    _, other = speaker(tmp_path).say("t/a/b-1/said", "y" * 5000, PLACE, Capabilities(files=True, max_text=2000))
    assert isinstance(other.content, File)
    assert other.content.path != str(path)


def test_what_is_for_one_person_alone_is_so_to_its_end(tmp_path: Path) -> None:
    for can in (Capabilities(files=True, max_text=2000), Capabilities(max_text=2000)):
        said = speaker(tmp_path).say("k", "line\n" * 1000, PLACE, can, reply_to="$press", private=True)
        contents = [each.content for each in said if isinstance(each.content, Message | File)]
        assert len(contents) == len(said) > 1
        assert {(each.private, each.reply_to) for each in contents} == {(True, "$press")}


def test_where_no_files_go_a_long_text_goes_in_pieces_under_keys_of_their_own(tmp_path: Path) -> None:
    outbounds = speaker(tmp_path).say("k", "word " * 1000, PLACE, Capabilities(max_text=1000))
    assert "".join(texts(outbounds)) == "word " * 1000
    assert [outbound.key for outbound in outbounds][:2] == ["k", "k/1"]
    assert len({outbound.key for outbound in outbounds}) == len(outbounds)


@pytest.mark.parametrize("html", [True, False])
@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize("piece", ["\u200b", "<", '"', "a\n", "*a* ", "🙂", "> a\n", "```\n"])
def test_no_message_is_larger_than_the_chat_system_takes(tmp_path: Path, piece: str, files: bool, html: bool) -> None:
    can = Capabilities(files=files, edits=True, html=html, max_text=4000)
    say = speaker(tmp_path)
    for length in (150, 1500, 8000):
        text = (piece * length)[:length]
        outbounds = say.say("k", text, PLACE, can)
        for final in (True, False):
            outbounds += say.replace("k/2", "k", text, PLACE, can, priority=Priority.FINAL, final=final)
        for outbound in outbounds:
            content = outbound.content
            message = content.message if isinstance(content, Replace) else content
            if isinstance(message, Message):
                assert len(message.text) + len(message.html or "") <= 4000


def test_a_growing_text_shows_its_end_and_a_final_one_its_beginning_and_the_file(tmp_path: Path) -> None:
    can = Capabilities(files=True, edits=True, max_text=2000)
    text = "first\n" + "middle\n" * 500 + "last"
    (growing,) = speaker(tmp_path).replace("k/1", "k", text, PLACE, can, priority=Priority.PROGRESS, final=False)
    assert isinstance(growing.content, Replace)
    assert growing.content.message.text.endswith("last")
    final, attached = speaker(tmp_path).replace("k/end", "k", text, PLACE, can, priority=Priority.FINAL, final=True)
    assert isinstance(final.content, Replace)
    assert final.content.final
    assert final.content.message.text.startswith("first")
    assert isinstance(attached.content, File)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MARKDOWN)
def test_the_final_edit_and_what_follows_it_hold_the_whole_text(tmp_path: Path, markdown: str) -> None:
    can = Capabilities(edits=True, max_text=500)
    outbounds = speaker(tmp_path).replace("k/end", "k", markdown, PLACE, can, priority=Priority.FINAL, final=True)
    first = outbounds[0].content
    assert isinstance(first, Replace)
    whole = "\n".join([first.message.text, *texts(outbounds[1:])])
    if all(len(line) < 80 for line in markdown.split("\n")):
        assert without_fences(whole) == without_fences(markdown)
    assert len({outbound.key for outbound in outbounds}) == len(outbounds)
