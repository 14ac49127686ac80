"""What is made of texts and of Discord's objects, whatever they are."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from connectors.contract.connector_protocol import MessageRefused
from connectors.contract.messages import Inbound, Text
from connectors.discord import message_conversion, message_splitting, rest_client
from connectors.discord.connector import LONGEST_TEXT
from connectors.discord.json_values import clean
from connectors.discord.message_splitting import WANTED_PARTS
from connectors.discord.read_cursor import ReadCursor

ME = "100000000000000001"
ANA = "100000000000000002"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(ANA),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "bot", "name"]), inner),
    max_leaves=5,
)
fields = ["id", "channel_id", "author", "content", "type", "attachments", "edited_timestamp", "user_id", "emoji"]


def message(**more: Any) -> dict[str, Any]:
    return {"id": "200000000000000000", "channel_id": "3", "author": {"id": ANA}, "type": 0, "content": "hello"} | more


def read(raw: dict[str, Any]) -> Inbound | None:
    return message_conversion.written(raw, connector="discord", me=ME, parent=None)


@given(st.dictionaries(st.sampled_from([*fields, "message_id", "member", "webhook_id"]), json_values))
def test_nothing_that_anybody_sends_breaks_the_reading(raw: dict[str, Any]) -> None:
    for read_as in (message_conversion.written, message_conversion.changed):
        read_as(raw, connector="discord", me=ME, parent=None)
    message_conversion.deleted(raw, ANA, connector="discord", parent=None)
    message_conversion.reacted(raw, connector="discord", me=ME, conversation="3", parent=None)


def test_bots_webhooks_and_what_discord_itself_says_are_nobody() -> None:
    assert read(message()) is not None
    assert read(message(author={"id": ME})) is None
    assert read(message(author={"id": ANA, "bot": True})) is None
    assert read(message(webhook_id="5")) is None
    assert read(message(type=18)) is None


@given(st.lists(st.sampled_from(["```", "```python", "~~~", "word " * 30, "x" * 90, "", "  ", "a"])))
def test_pieces_fit_and_lose_no_word(lines: list[str]) -> None:
    pieces = message_splitting.split("\n".join(lines), 100)
    assert all(len(piece) <= 100 for piece in pieces)

    def words(text: str) -> list[str]:
        return [word for word in text.replace("`", " ").replace("~", " ").split() if word != "python"]

    assert "".join(words(" ".join(pieces))) == "".join(words("\n".join(lines)))


@given(
    st.lists(
        st.sampled_from(
            ["```", "```python", "~~~", "`````", "``` no language at all", "word " * 380, "x" * 1_001, "", "a"]
        )
        | st.text(max_size=1_500),
        max_size=12,
    )
)
@example([each for _ in range(5) for each in ("```", "x" * 1_001, "```")])
@example(["x" * 1_001] * 5)
def test_what_is_said_as_text_stands_whole_in_few_messages(lines: list[str]) -> None:
    """Also where nothing can be split between lines without wasting half of each message."""
    text = clean("\n".join(lines)[:LONGEST_TEXT])
    pieces = message_splitting.split(text, most=WANTED_PARTS)
    assert len(pieces) <= WANTED_PARTS
    assert all(len(piece) <= message_conversion.LONGEST for piece in pieces)

    def marks(text: str) -> str:
        return re.sub(r"[\s`~]|python", "", text)

    assert marks("".join(pieces)) == marks(text)


def test_a_files_name_is_one_that_discord_keeps() -> None:
    assert message_conversion.file_name('../a "b"\r\nX: y/chärt 1.png') == "_a__b___X__y_ch_rt_1.png"
    assert message_conversion.file_name("...") == "file"


def test_a_block_that_fits_stays_whole_and_a_longer_one_is_opened_again() -> None:
    block = "```sh\n" + "y" * 50 + "\n```"
    assert message_splitting.split(f"{'x' * 60}\n{block}", 100) == ["x" * 60, block]
    long = "```sh\n" + "\n".join(["z" * 40] * 3) + "\n```"
    assert message_splitting.split(long, 100) == [
        f"```sh\n{'z' * 40}\n{'z' * 40}\n```",
        f"```sh\n{'z' * 40}\n```",
    ]


def test_a_cursor_stays_small_and_loses_nothing_that_was_not_read() -> None:
    minute = 60_000 << 22
    position = ReadCursor(floor=0).read("a", 100 * minute).read("b", 105 * minute)
    assert position.settled().of("c") == 95 * minute
    later = position.read("b", 200 * minute).settled()
    assert later.marks == {"b": 200 * minute}
    assert later.of("a") == 190 * minute
    assert ReadCursor.decode(later.knows("d", 7).encode()) == later.knows("d", 7)


def test_what_is_shown_without_words_is_read_in_words_and_is_no_command() -> None:
    message = {"id": "7", "channel_id": "8", "type": 0, "author": {"id": "9"}, "content": ""}
    poll = {"question": {"text": "now\nor"}, "answers": [{"poll_media": {"text": text}} for text in ("!yes", "no")]}

    def said(**more: object) -> object:
        found = message_conversion.written(message | more, connector="discord", me="1", parent=None)
        return found and found.body

    assert said(sticker_items=[{"name": "!stop"}]) == Text(text="[sticker: !stop]")
    assert said(poll=poll) == Text(text="[poll: now or !yes / no]")
    assert said(sticker_items=[{"name": "wave"}], content="!ps") == Text(text="!ps")
    assert said(sticker_items=[7], poll={"question": 1, "answers": [None, {}]}) == Text(text="[poll: ? ? / ?]")
    assert said() is None


def test_where_a_server_has_too_many_threads_it_is_said_what_to_do() -> None:
    error = rest_client.send_error(rest_client.DiscordRefusal(400, 160006, "Maximum number of active threads reached"))
    assert isinstance(error, MessageRefused)
    assert "archive threads" in str(error)
