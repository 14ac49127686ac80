from __future__ import annotations

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.host import state as states
from fleet.host.state import AgentState, carried, cut_off, fold, from_carried
from fleet.journal.events import (
    AsideAsked,
    AsideEnded,
    Event,
    GrantAdded,
    GrantRevoked,
    HandedBack,
    HandedOver,
    JournalEntry,
    JournalPosition,
    MessageEdited,
    MessagePutFirst,
    MessageQueued,
    MessageWithdrawn,
    Opened,
    PermissionAnswered,
    PermissionAsked,
    RuntimeStarted,
    TurnAccepted,
    TurnEnded,
    TurnStarted,
)


def folded(*events: Event, state: AgentState | None = None) -> AgentState:
    entries = [
        JournalEntry(position=JournalPosition(3, n), at=float(n), event=event) for n, event in enumerate(events, 1)
    ]
    return fold(entries, state)


def queued(id_: str, mode: str = "queue") -> MessageQueued:
    return MessageQueued(id=id_, text=id_, mode=mode)


def started(id_: str) -> TurnStarted:
    return TurnStarted(turn=f"t-{id_}", message=id_, session="s")


def accepted(id_: str) -> TurnAccepted:
    return TurnAccepted(turn=f"t-{id_}", message=id_)


def ended(id_: str, reason: str = "end_turn", took: bool = True) -> TurnEnded:
    return TurnEnded(turn=f"t-{id_}", message=id_, stop_reason=reason, accepted=took)


ASKED = PermissionAsked(
    request="1", turn="t", session="s", digest="d", title="rm", detail="rm", options=({"id": "y"},), expires_at=9.0
)


def test_messages_wait_in_order_and_steering_ones_go_first() -> None:
    state = folded(queued("a"), queued("b"), queued("c", "steer"), queued("d", "steer"), queued("e"))
    assert [message.id for message in state.queue] == ["c", "d", "a", "b", "e"]


def test_what_waits_can_be_edited_and_put_first() -> None:
    waiting = (queued("a"), queued("b"), queued("c", "steer"))
    state = folded(*waiting, MessagePutFirst(id="b"), MessageEdited(id="a", text="better"))
    assert [message.id for message in state.queue] == ["b", "c", "a"]
    assert state.queue[2].text == "better"
    assert state.fates == {"a": "journaled", "b": "journaled", "c": "journaled"}
    # What does not wait is not changed.
    begun = folded(*waiting, started("c"))
    assert folded(MessagePutFirst(id="c"), MessageEdited(id="c", text="late"), state=begun) == begun


def test_what_becomes_of_a_message() -> None:
    assert folded(queued("a")).fates == {"a": "journaled"}
    assert folded(queued("a"), MessageWithdrawn(id="a")).fates == {"a": "withdrawn"}
    assert folded(queued("a"), started("a")).fates == {"a": "started"}
    assert folded(queued("a"), started("a"), accepted("a")).fates == {"a": "accepted"}
    begun = (queued("a"), started("a"), accepted("a"))
    assert folded(*begun, ended("a")).fates == {"a": "finished"}
    assert folded(*begun, ended("a", "cancelled")).fates == {"a": "cancelled"}
    steered = TurnEnded(turn="1", message="a", stop_reason="cancelled", steered=True)
    assert folded(*begun, steered).fates == {"a": "steered"}
    assert folded(*begun, ended("a", "error")).fates == {"a": "failed"}
    assert folded(*begun, ended("a", "cut")).fates == {"a": "cut"}
    assert folded(queued("a"), started("a"), ended("a", "cut", took=False)).fates == {"a": "uncertain"}


def test_a_cut_says_whether_the_runtime_had_shown_that_it_got_the_message() -> None:
    (uncertain,) = cut_off(folded(queued("a"), started("a")), "why")
    assert isinstance(uncertain, TurnEnded)
    assert (uncertain.stop_reason, uncertain.accepted) == ("cut", False)
    lost, cut = cut_off(folded(queued("a"), started("a"), accepted("a"), ASKED), "why")
    assert lost == PermissionAnswered(request="1", outcome="lost", asked_in=3)
    assert isinstance(cut, TurnEnded)
    assert cut.accepted is True
    assert cut_off(folded(queued("a")), "why") == []


def test_a_question_on_the_side_is_open_until_it_ends_and_lost_with_the_host() -> None:
    asked = folded(queued("a"), AsideAsked(id="q1", text="why?"))
    assert from_carried(json.loads(json.dumps(carried(asked)))).aside == "q1"
    lost = cut_off(asked, "why")
    assert lost == [AsideEnded(id="q1", outcome="lost", detail="why")]
    after = folded(*lost, state=asked)
    assert (after.aside, after.asides) == (None, {"q1": "lost"})
    assert from_carried(json.loads(json.dumps(carried(after)))).asides == {"q1": "lost"}
    assert cut_off(after, "why") == []


def test_a_handover_lasts_until_it_ends_or_the_host_does() -> None:
    over = folded(HandedOver(by="ana", session="s"))
    again = from_carried(json.loads(json.dumps(carried(over))))
    assert (again.handed_to, again.handed_at) == ("ana", over.handed_at)
    back = cut_off(over, "why")
    assert back == [HandedBack(by="ana", reason="why")]
    after = folded(*back, state=over)
    assert (after.handed_to, after.handed_at, cut_off(after, "why")) == (None, None, [])


def test_the_instructions_count_as_taken_only_when_the_runtime_took_a_prompt() -> None:
    runtime = RuntimeStarted(pid=1, session="s", loaded=False)
    assert folded(runtime, queued("a"), started("a")).introduced is False
    taken = folded(runtime, queued("a"), started("a"), accepted("a"))
    assert taken.introduced is True
    assert folded(RuntimeStarted(pid=1, session="s", loaded=True), state=taken).introduced is True
    assert folded(RuntimeStarted(pid=1, session="new", loaded=False), state=taken).introduced is False


def test_grants_come_and_go() -> None:
    added = folded(GrantAdded(digest="d", title="ls", by="ana"))
    assert added.grants == {"d": "ls"}
    assert folded(GrantRevoked(digest="d", by="ana"), state=added).grants == {}


def test_fates_are_kept_for_long_but_not_for_ever() -> None:
    state = AgentState(fates={f"m{n}": "finished" for n in range(states.FATES_KEPT)})
    state = folded(queued("new"), state=state)
    assert len(state.fates) == states.FATES_KEPT
    assert "m0" not in state.fates
    assert "new" in state.fates


_ids = st.sampled_from(["a", "b", "c"])
_events = st.one_of(
    st.builds(queued, _ids, st.sampled_from(["queue", "steer"])),
    st.builds(started, _ids),
    st.builds(accepted, _ids),
    st.builds(ended, _ids, st.sampled_from(["end_turn", "cut", "error"]), st.booleans()),
    st.builds(MessageWithdrawn, id=_ids),
    st.builds(MessagePutFirst, id=_ids),
    st.builds(MessageEdited, id=_ids, text=_ids),
    st.builds(GrantAdded, digest=_ids, title=_ids, by=_ids),
    st.just(ASKED),
    st.builds(PermissionAnswered, request=st.just("1"), outcome=st.just("denied")),
    st.builds(RuntimeStarted, pid=st.just(1), session=_ids, loaded=st.booleans()),
)


@settings(database=None)
@given(st.lists(_events, max_size=20))
def test_whatever_happened_the_state_is_carried_into_the_next_incarnation(events: list[Event]) -> None:
    state = folded(*events)
    written = json.loads(json.dumps(carried(state)))
    assert from_carried(written) == state
    first = Opened(agent="a", launch_id="l", marker="m", pid=1, protocol=1, carried=written)
    assert folded(first) == dataclasses.replace(state, markers=("m",))
    assert cut_off(folded(*cut_off(state, "why"), state=state), "why") == []


def test_what_an_older_version_carried_has_defaults() -> None:
    assert from_carried({}) == AgentState()
    assert from_carried({"later": 1, "queue": [{"id": "a", "text": "x", "later": 2}]}).queue[0].id == "a"


def test_the_last_markers_are_kept() -> None:
    state = AgentState()
    for number in range(20):
        first = Opened(
            agent="a",
            launch_id="l",
            marker=f"m{number}",
            pid=1,
            protocol=1,
            carried=json.loads(json.dumps(carried(state))),
        )
        state = folded(first, state=state)
    assert state.markers == tuple(f"m{number}" for number in range(12, 20))
