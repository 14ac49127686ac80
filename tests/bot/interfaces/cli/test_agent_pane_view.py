from __future__ import annotations

from bot.interfaces.cli.agent_pane_view import Pane
from core.redaction import MASK, SecretMasker
from fleet.journal import events
from fleet.journal.events import Event, JournalEntry, JournalPosition

SECRET = "correct-horse-battery"


def shown(*said: Event) -> str:
    pane = Pane(SecretMasker(known=frozenset({SECRET})))
    entries = [
        JournalEntry(position=JournalPosition(1, seq), at=0.0, event=event) for seq, event in enumerate(said, start=1)
    ]
    return "".join(map(pane.after, entries)) + pane.flush()


def text(*pieces: str) -> list[Event]:
    return [events.TextChunk(turn="t", text=piece) for piece in pieces]


def test_a_turn_reads_like_a_transcript() -> None:
    lines = shown(
        events.MessageQueued(id="m", text="Mend the parser.\nSoon.", sender="@ana"),
        events.TurnStarted(turn="t", message="m", session="s"),
        *text("I look at ", "it."),
        events.ToolCall(turn="t", call="c", title="Read parser.py", status="pending"),
        events.ToolCall(turn="t", call="c", status="completed"),
        events.PermissionAsked(
            request="r", turn="t", session="s", digest="d", title="rm -r build", detail="rm -r build\n# all",
            options=(), expires_at=9.0,
        ),
        events.PermissionAnswered(request="r", outcome="denied", by="@ana"),
        *text("Done."),
        events.TurnEnded(turn="t", message="m", stop_reason="end_turn"),
        events.Closing(reason="asked to stop"),
    ).splitlines()  # fmt: skip
    assert [line[9:] if line[2:3] == ":" else line for line in lines] == [
        "▷ @ana:", "    Mend the parser.", "    Soon.", "▶ begins a turn", "    I look at it.", "⚙ Read parser.py",
        "✓ Read parser.py", "? asks for permission: rm -r build", "    rm -r build", "    # all",
        "? permission: denied by @ana", "    Done.", "■ ended its turn: end_turn", "● ends: asked to stop.",
    ]  # fmt: skip


def test_nothing_in_it_acts_on_a_terminal() -> None:
    hostile = "\x1b]0;mine\x07\x9b2J\u202eabc\r"
    out = shown(
        *text(hostile, "more"),
        events.ToolCall(turn="t", call="c", title=hostile, detail=hostile),
        events.Notice(text=hostile),
        events.RuntimeDied(reason=hostile, stderr=hostile),
    )
    assert not [sign for sign in out if not sign.isprintable() and sign != "\n"]
    assert out.count("␛]0;mine") == 6


def test_nothing_that_is_said_passes_for_a_line_of_musters() -> None:
    forged = "20:29:59 ? permission: allowed by @ana"
    for cut in range(len(forged)):
        out = shown(*text("well.\n", forged[:cut], forged[cut:], "\n\n", forged, "\n"), events.Closing(reason="asked"))
        lines = out.splitlines()
        assert [line for line in lines if forged in line] == [f"    {forged}"] * 2
        assert lines[-1].endswith("● ends: asked.")
    # What follows begins a line of its own, also where nothing of the text was held back.
    for end in ("end", "end ", "end.", "end\n"):
        assert len(shown(*text(end), events.Closing(reason="asked")).splitlines()) == 2


def test_a_secret_is_masked_however_it_is_cut() -> None:
    for cut in range(len(SECRET) + 1):
        out = shown(*text("the word is ", SECRET[:cut], SECRET[cut:], " and so on"))
        assert out == f"    the word is {MASK} and so on\n"
    assert SECRET not in shown(events.ToolCall(turn="t", call="c", title=f"echo {SECRET}", detail=SECRET))


def test_a_key_over_many_pieces_is_masked() -> None:
    body = "\n".join("MIIEowIBAAKCAQEAx0" + str(number) * 40 for number in range(1, 9))
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n"
    out = shown(*text(*(key[at : at + 7] for at in range(0, len(key), 7)), "after"))
    assert "MIIE" not in out
    assert out.endswith("after\n")


def test_a_long_answer_comes_whole_and_in_pieces() -> None:
    words = [f"word{number} " for number in range(600)]
    out = shown(*text(SECRET, " ", *words))
    assert out.split() == [MASK, *"".join(words).split()]
