from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract.messages import Edit, Emphasis, Inbound, Message, Reaction, Redaction, Text
from connectors.matrix import message_conversion
from connectors.matrix.encrypted_files import FileSecrets, objection, seal_file
from connectors.matrix.message_conversion import Me, inbound, without_mention

ME = Me(user="@muster:example.org", display_name="Muster")
ROOM = "!room:example.org"


def event(given: dict[str, Any], kind: str = "m.room.message", **more: Any) -> dict[str, Any]:
    base = {
        "type": kind,
        "event_id": "$event",
        "sender": "@ana:example.org",
        "origin_server_ts": 1_700_000_000_500,
        "content": given,
    }
    return base | more


def read(raw: dict[str, Any], places: dict[str, str] | None = None) -> Inbound | None:
    return inbound(raw, connector="matrix", room=ROOM, me=ME, place_of=(places or {}).get)


def body(raw: dict[str, Any]) -> Any:
    found = read(raw)
    return None if found is None else found.body


def test_a_message_carries_who_where_and_when() -> None:
    found = read(event({"msgtype": "m.text", "body": "!ps"}))
    assert found == Inbound(
        connector="matrix",
        event_id="$event",
        conversation=ROOM,
        sender="@ana:example.org",
        sent_at=1_700_000_000.5,
        body=Text(text="!ps"),
    )


@pytest.mark.parametrize("kind", ["m.notice", "m.location", "org.example.custom"])
def test_other_kinds_of_messages_are_no_input(kind: str) -> None:
    assert read(event({"msgtype": kind, "body": "!stop coder0"})) is None


def test_state_events_own_events_and_redacted_ones_are_nothing() -> None:
    words = {"msgtype": "m.text", "body": "!stop coder0"}
    assert read(event(words, state_key="")) is None
    assert read(event(words, sender=ME.user)) is None
    assert read(event({})) is None
    assert read(event(words, kind="m.room.encrypted")) is None


def test_an_edit_is_never_a_text() -> None:
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": "$old"}}
    fresh = {"msgtype": "m.text", "body": "* !stop", "m.new_content": {"msgtype": "m.text", "body": "!stop"}}
    assert body(event(fresh | relation)) == Edit(target="$old", text="!stop")
    assert body(event({"msgtype": "m.text", "body": "* !stop"} | relation)) == Edit(target="$old", text="!stop")


def test_reactions_and_redactions_are_placed_where_their_target_was_seen() -> None:
    places = {"$old": f"{ROOM}|$root"}
    reaction = event({"m.relates_to": {"rel_type": "m.annotation", "event_id": "$old", "key": "👍"}}, "m.reaction")
    found = read(reaction, places)
    assert found is not None
    assert (found.body, found.conversation, found.parent) == (
        Reaction(target="$old", key="👍"),
        f"{ROOM}|$root",
        ROOM,
    )
    for redaction in (event({}, "m.room.redaction", redacts="$old"), event({"redacts": "$old"}, "m.room.redaction")):
        found = read(redaction, places)
        assert found is not None
        assert (found.body, found.conversation) == (Redaction(target="$old"), f"{ROOM}|$root")
        found = read(redaction)
        assert found is not None
        assert found.conversation == ROOM


def test_the_quotation_of_an_answer_is_left_out_but_no_other() -> None:
    quoted = "> <@muster:example.org> are you sure?\n> really?\n\nyes\n> quoted by hand"
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$asked"}}}
    assert body(event({"msgtype": "m.text", "body": quoted} | reply)).text == "yes\n> quoted by hand"
    by_hand = "> something\n\nelse"
    assert body(event({"msgtype": "m.text", "body": by_hand} | reply)).text == by_hand
    assert body(event({"msgtype": "m.text", "body": quoted})).text == quoted


@pytest.mark.parametrize(
    ("text", "named", "expected"),
    [
        ("Muster: !ps", False, ("!ps", True)),
        ("muster, !ps", False, ("!ps", True)),
        ("@muster:example.org !ps", False, ("!ps", True)),
        ("@muster:example.org: !ps", True, ("!ps", True)),
        ("@Muster: !ps", False, ("!ps", True)),
        ("Muster !ps", True, ("!ps", True)),
        ("Muster is down", False, ("Muster is down", False)),
        ("Musterman: hello", True, ("Musterman: hello", True)),
        ("ask Muster: why", False, ("ask Muster: why", False)),
        ("hello Muster", True, ("hello Muster", True)),
        ("Muster", True, ("", True)),
    ],
)
def test_mentions(text: str, named: bool, expected: tuple[str, bool]) -> None:
    assert without_mention(text, ME, named=named) == expected


def test_a_file_has_a_harmless_name_and_keeps_its_caption() -> None:
    raw = {
        "msgtype": "m.file",
        "body": "look",
        "filename": "../../etc/pass\nwd",
        "url": "mxc://example.org/abc",
        "info": {"mimetype": "TEXT/plain", "size": -5},
    }
    found = body(event(raw))
    assert found.text == "look"
    (attachment,) = found.attachments
    assert attachment.name == ".._.._etc_pass_wd"
    assert (attachment.media_type, attachment.size) == ("text/plain", None)
    assert message_conversion.media(attachment.ref) == ("example.org", "abc")
    assert body(event(raw | {"url": "https://evil.example/x"})) == Text(text="look")
    assert body(event(raw | {"url": "mxc://example.org/../../admin"})) == Text(text="look")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = ["msgtype", "body", "m.relates_to", "m.new_content", "url", "info", "filename", "m.mentions", "redacts"]
_VALUES = (
    _JSON
    | st.sampled_from(["m.text", "m.image", "m.file", "mxc://a/b", "$x", "a\0b\ud800"])
    | st.fixed_dictionaries(
        {},
        optional={
            "rel_type": st.sampled_from(["m.thread", "m.replace", "m.annotation"]) | _JSON,
            "event_id": st.sampled_from(["$x", "$a|b", ""]) | _JSON,
            "key": _JSON,
            "m.in_reply_to": _JSON,
            "mimetype": _JSON,
            "size": _JSON,
            "user_ids": _JSON,
            "body": _JSON,
        },
    )
)


@given(
    kind=st.sampled_from(["m.room.message", "m.reaction", "m.room.redaction"]) | _JSON,
    raw=st.dictionaries(st.sampled_from(_KEYS), _VALUES) | _JSON,
    event_id=st.just("$event") | _JSON,
    stamp=st.integers() | _JSON,
)
def test_whatever_a_hostile_one_sends_is_read_or_ignored_and_can_be_stored(
    kind: Any, raw: Any, event_id: Any, stamp: Any
) -> None:
    found = read(event(raw, kind, event_id=event_id, origin_server_ts=stamp))
    if found is not None:
        str(found).encode()
        assert "\0" not in str(found)
        assert found.conversation.count("|") <= 1


def test_an_edit_repeats_itself_only_while_there_is_room() -> None:
    short = message_conversion.replacement(Message(text="a", html="<b>a</b>"), key="k", target="$t")
    assert short["body"] == "* a"
    assert short["m.new_content"]["formatted_body"] == "<b>a</b>"
    assert "m.relates_to" not in short["m.new_content"]
    long = message_conversion.replacement(Message(text="a" * 20_000, html="b" * 20_000), key="k", target="$t")
    assert long["m.new_content"]["body"] == "a" * 20_000
    assert long["m.new_content"]["formatted_body"] == "b" * 20_000
    assert message_conversion.size(long) < message_conversion.CONTENT_LIMIT + 2_500


def test_text_that_grows_too_large_with_its_html_goes_without() -> None:
    text = "漢" * 19_000
    said = message_conversion.spoken(Message(text=text, html=f"<p>{text}</p>"), key="k")
    assert said["body"] == text
    assert "formatted_body" not in said


def test_words_of_an_agent_are_text_and_asides_are_notices_and_neither_calls_everybody() -> None:
    said = message_conversion.spoken(Message(text="@room @Room rooms@rooms", emphasis=Emphasis.TEXT), key="k")
    assert said["msgtype"] == "m.text"
    assert "@room" not in said["body"].lower().replace("@rooms", "")
    assert said["m.mentions"] == {}
    assert message_conversion.spoken(Message(text="aside"), key="k")["msgtype"] == "m.notice"


def test_a_reply_in_a_thread_is_a_real_one() -> None:
    said = message_conversion.spoken(Message(text="yes", reply_to="$asked"), key="k", root="$root", latest="$latest")
    assert said["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": False,
        "m.in_reply_to": {"event_id": "$asked"},
    }


def test_transaction_ids_are_stable_short_and_safe_in_a_path() -> None:
    assert message_conversion.transaction("reply-1.2") == "reply-1.2"
    odd = message_conversion.transaction("a/b #1?" + "x" * 500)
    assert odd == message_conversion.transaction("a/b #1?" + "x" * 500)
    assert odd.isalnum()
    assert len(odd) < 100
    assert message_conversion.transaction("a/b") != message_conversion.transaction("a/c")


def test_what_is_said_can_always_be_encoded() -> None:
    said = message_conversion.spoken(Message(text="half a pair \ud800 and a nul \0", html="\ud800"), key="k")
    json.dumps(said, ensure_ascii=False).encode()


KEY, IV, HASH = "k" * 43, "i" * 22, "h" * 43


#: As the specification has it ("JWK").
JWK = {"kty": "oct", "alg": "A256CTR", "ext": True, "key_ops": ["encrypt", "decrypt"], "k": KEY}


def sealed_file(**changes: Any) -> dict[str, Any]:
    file = {"url": "mxc://x/y", "v": "v2", "key": JWK, "iv": IV, "hashes": {"sha256": HASH}}
    return {"msgtype": "m.image", "body": "a.png", "file": file | changes, "info": {"mimetype": "image/png"}}


def test_an_encrypted_file_is_one_with_what_opens_it() -> None:
    found = body(event(sealed_file()))
    assert isinstance(found, Text)
    (attachment,) = found.attachments
    assert attachment.ref == f"mxc://x/y#{KEY}.{IV}.{HASH}"
    assert message_conversion.media(attachment.ref) == ("x", "y")
    assert FileSecrets.of(attachment.ref) == FileSecrets(KEY, IV, HASH)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": None}, "key"),
        ({"key": JWK | {"k": 7}}, "256 bits"),
        ({"key": JWK | {"k": "../../../etc/passwd"}}, "256 bits"),
        ({"key": JWK | {"kty": "RSA"}}, "kty oct"),
        ({"key": JWK | {"alg": "A256GCM"}}, "alg A256CTR"),
        ({"key": JWK | {"alg": None}}, "alg A256CTR"),
        ({"key": JWK | {"ext": False}}, "ext true"),
        ({"key": JWK | {"ext": "true"}}, "ext true"),
        ({"key": JWK | {"key_ops": ["encrypt"]}}, "key_ops"),
        ({"key": JWK | {"key_ops": "encrypt decrypt"}}, "key_ops"),
        ({"key": {"k": KEY}}, "kty oct"),
        ({"v": "v1"}, "not v2"),
        ({"v": None}, "not v2"),
        ({"v": ["v2"]}, "not v2"),
        ({"iv": []}, "128 bits"),
        ({"iv": "short"}, "128 bits"),
        ({"hashes": {}}, "SHA-256"),
        ({"hashes": {"sha256": HASH + "#mxc://a/b"}}, "SHA-256"),
        ({"url": None}, "address"),
        ({"url": "https://elsewhere/"}, "address"),
        ({"url": "mxc://x/y#z"}, "address"),
    ],
)
def test_an_encrypted_file_that_nothing_opens_is_none(changes: dict[str, Any], reason: str) -> None:
    raw = sealed_file(**changes)
    found = body(event(raw))
    assert isinstance(found, Text)
    assert found.attachments == ()
    assert reason in (message_conversion.unsealed_file(raw) or "")


def test_what_came_encrypted_has_no_file_in_the_clear() -> None:
    assert message_conversion.unsealed_file(sealed_file()) is None
    assert message_conversion.unsealed_file({"msgtype": "m.text", "body": "hello", "url": "mxc://x/y"}) is None
    for picture in ({"url": "mxc://x/y"}, {"url": "mxc://x/y", "file": None}, {"url": 7}, {"url": f"mxc://x/y#{KEY}"}):
        raw = {"msgtype": "m.image", "body": "a.png", **picture}
        assert "not encrypted" in (message_conversion.unsealed_file(raw) or "")
    assert "not described" in (message_conversion.unsealed_file({"msgtype": "m.file", "file": []}) or "")
    # Nor does an address in the clear bring a key.
    found = body(event({"msgtype": "m.image", "body": "a.png", "url": f"mxc://x/y#{KEY}.{IV}.{HASH}"}))
    assert isinstance(found, Text)
    assert found.attachments == ()


def test_what_we_encrypt_is_what_others_ask_for() -> None:
    _, secrets = seal_file(b"words")
    assert objection(secrets.as_json("mxc://x/y")) is None
