from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from connectors.contract.connector_protocol import NeedsPerson
from connectors.matrix.homeserver_client import HomeserverUnreachable
from connectors.matrix.power_levels import Levels
from connectors.matrix.sync_loop import FIRST_PAUSE, LONGEST_PAUSE, pause
from connectors.matrix.sync_response import Membership, RoomNews, SyncPosition, read

ME = "@muster:example.org"


def member(state: str, *, user: str = ME, stamp: int = 0) -> dict[str, Any]:
    content = {"membership": state}
    return {"type": "m.room.member", "state_key": user, "content": content, "origin_server_ts": stamp, "sender": user}


def said(text: str, stamp: int = 0) -> dict[str, Any]:
    return {"type": "m.room.message", "content": {"body": text}, "origin_server_ts": stamp}


def counted(events: list[dict[str, Any]], *, before: bool, state: list[dict[str, Any]] | None = None) -> list[str]:
    found = Membership(ME, inside=before)
    found.begin(RoomNews(room="!r", timeline=events, state=state or [], gap=False))
    return [event["content"].get("body", "-") for event in events if found.counts(event)]


def test_a_cursor_reads_as_it_was_written() -> None:
    position = SyncPosition(since="s1_2", rooms=frozenset({"!b", "!a"}), invitations=(("!c", "@eve:example.org"),))
    assert SyncPosition.decode(position.encode()) == position
    levels = (("!a", Levels({"@ana:example.org": 100}, 0)), ("!b", Levels({}, 50)))
    position = replace(position, aliases=(("#fleet:example.org", "!a"),), levels=levels)
    assert SyncPosition.decode(position.encode()) == position


_WRONG = '{"since": "s", "rooms": [], "invitations": [], "levels": {"!a": {"users": 1}}}'


@pytest.mark.parametrize("cursor", ["", "s1_2", "[]", '{"since": "s"}', '{"since": "s", "rooms": 5}', _WRONG])
def test_a_foreign_cursor_needs_a_person(cursor: str) -> None:
    with pytest.raises(NeedsPerson, match="another version"):
        SyncPosition.decode(cursor)


def test_only_what_was_said_while_we_were_there_counts() -> None:
    kicked = [said("a"), member("leave"), said("b"), member("invite"), said("c"), member("join"), said("d")]
    assert counted(kicked, before=True) == ["a", "d"]
    assert counted([said("old"), member("join"), said("new")], before=False) == ["new"]
    renamed = [said("a"), member("join"), said("b")]
    assert counted(renamed, before=True) == ["a", "b"]
    assert counted([member("leave", user="@ana:example.org"), said("a")], before=True) == ["-", "a"]


def test_a_join_that_only_the_state_tells_is_compared_by_time() -> None:
    events = [said("old", 5), said("new", 15)]
    assert counted(events, before=False, state=[member("join", stamp=10)]) == ["new"]
    assert counted(events, before=False, state=[member("invite", stamp=10)]) == []
    assert counted(events, before=False) == []


def test_what_stands_before_our_last_coming_back_does_not_count() -> None:
    away = [member("leave"), said("a", 90), member("invite"), said("b", 90)]
    back = [member("join"), said("c", 5), member("join"), said("d")]
    for reached in ([], [said("old", 90)], [member("join"), said("old", 90)], [member("join"), said("old"), *away]):
        assert counted([*reached, *away, *back], before=False) == ["c", "d"]
        # As some show the state: as it is now, or as it was where the timeline begins.
        assert counted([*reached, *away, *back], before=False, state=[member("join", stamp=1)]) == ["c", "d"]
        assert counted([*reached, *away, *back, member("leave")], before=False) == ["c", "d"]
    # What was left out before the timeline had the join.
    found = Membership(ME, inside=False)
    missed, shown = [said("a", 90), member("invite"), member("join"), said("b")], [said("c"), member("join"), said("d")]
    heard = [event["content"].get("body") for event in missed if found.counts(event)]
    found.begin(RoomNews(room="!r", timeline=shown, state=[member("join", stamp=1)], gap=True))
    assert [*heard, *(event["content"].get("body") for event in shown if found.counts(event))] == ["b", "c", "d"]


def test_a_join_that_state_and_timeline_tell_is_where_the_timeline_has_it() -> None:
    join = member("join", stamp=10) | {"event_id": "$join"}
    assert counted([said("forged", 90), join, said("new")], before=False, state=[join]) == ["new"]


def test_the_inviter_is_who_the_homeserver_says_not_who_the_invitation_claims() -> None:
    forged = {"type": "m.room.member", "state_key": ME, "sender": "@ana:example.org", "content": {}}
    real = forged | {"sender": "@eve:evil.example"}
    answer = {"next_batch": "s", "rooms": {"invite": {"!r": {"invite_state": {"events": [forged, real]}}}}}
    assert read(answer, ME).invited == (("!r", "@eve:evil.example"),)


def test_an_answer_of_any_shape_is_read_or_refused() -> None:
    with pytest.raises(HomeserverUnreachable, match="without a token"):
        read({}, ME)
    odd = {"next_batch": "s", "rooms": {"join": {"!r": None, "!a|$b": {}}, "invite": [], "leave": {"!l": 5}}}
    news = read(odd, ME)
    assert [room.room for room in news.joined] == ["!r"]
    assert [room.room for room in news.left] == ["!l"]


def test_pauses_grow_from_five_seconds_to_five_minutes_and_keep_to_what_was_asked() -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    pauses = [pause(failures, None, chance.random()) for failures in range(1, 50)]
    assert all(FIRST_PAUSE <= seconds <= LONGEST_PAUSE for seconds in pauses)
    assert pauses[0] <= 5 < pauses[2] < pauses[5]
    assert pauses[-1] >= 0.75 * LONGEST_PAUSE
    assert pause(1, 30.0, 0.5) == 30.0
