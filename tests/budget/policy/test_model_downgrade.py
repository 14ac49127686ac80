"""The steps at a limit: a smaller model, the queue, and last a refusal."""

from __future__ import annotations

import pytest

from budget.policy.model_downgrade import (
    Downgrade,
    HeldBack,
    QueueStart,
    RefuseStart,
    Rung,
    StartAsWanted,
    Tried,
    is_of,
    parse,
    rungs,
    step,
)

RUNTIMES = ("claude", "codex", "opencode")
CHAIN = [parse(each, runtime="claude", runtimes=RUNTIMES) for each in ("opus", "sonnet", "haiku", "codex:gpt-5-codex")]


def below(runtime: str, model: str | None) -> list[str]:
    return [str(rung) for rung in rungs(CHAIN, runtime=runtime, model=model)]


def held(text: str = "Pace.", at: float | None = 100.0, *, never: bool = False) -> HeldBack:
    return HeldBack(text=text, at=at, never=never)


def test_rungs_are_read_with_and_without_a_runtime() -> None:
    assert CHAIN[0] == Rung(runtime="claude", model="opus")
    assert CHAIN[3] == Rung(runtime="codex", model="gpt-5-codex")
    strange = parse("qwen3:32b", runtime="opencode", runtimes=RUNTIMES)
    assert strange == Rung(runtime="opencode", model="qwen3:32b"), "a colon of the model's own"


@pytest.mark.parametrize(
    ("model", "family", "expected"),
    [
        ("claude-opus-4-1", "opus", True),
        ("OPUS", "opus", True),
        ("anthropic/claude-sonnet-4-5", "sonnet", True),
        ("claude-sonnet-4-5", "claude-sonnet", True),
        ("octopus", "opus", False),
        ("gpt-5-codex", "gpt-5", True),
        (None, "opus", False),
    ],
)
def test_a_family_is_a_part_of_the_name(model: str | None, family: str, expected: bool) -> None:
    assert is_of(model, family) is expected


def test_down_the_same_runtime_first_then_others() -> None:
    assert below("claude", "claude-opus-4-1") == ["claude:sonnet", "claude:haiku", "codex:gpt-5-codex"]
    assert below("claude", "haiku") == ["codex:gpt-5-codex"]
    assert below("codex", "gpt-5-codex") == [], "the last rung has none below it"
    assert below("codex", "gpt-4")[0] == "codex:gpt-5-codex"
    assert below("claude", None) == ["claude:opus", "claude:sonnet", "claude:haiku", "codex:gpt-5-codex"]
    assert rungs([], runtime="claude", model="opus") == ()


def test_what_may_run_starts() -> None:
    assert step(None) == StartAsWanted()


def test_the_first_rung_that_may_run_is_taken() -> None:
    tried = [Tried(rung=CHAIN[1], held=held()), Tried(rung=CHAIN[2], held=None), Tried(rung=CHAIN[3], held=None)]
    assert step(held("Opus waits."), tried) == Downgrade(rung=CHAIN[2], why="Opus waits.")


def test_without_such_a_rung_it_is_queued_until_the_first_window_opens() -> None:
    tried = [Tried(rung=CHAIN[1], held=held(at=50.0)), Tried(rung=CHAIN[2], held=held(at=None))]
    assert step(held(), tried) == QueueStart(at=50.0, why="Pace.", tried=(CHAIN[1], CHAIN[2]))
    assert step(held(at=None)) == QueueStart(at=None, why="Pace.")


def test_refused_only_if_no_window_opens_in_time() -> None:
    assert isinstance(step(held(at=100.0), deadline=100.0), QueueStart)
    refused = step(held(at=100.0), deadline=99.0)
    assert isinstance(refused, RefuseStart)
    assert "before its deadline" in refused.why
    assert isinstance(step(held(at=100.0), deadline=99.0, may_refuse=False), QueueStart)
    # Nobody knows when the other opens: it may be in time.
    assert isinstance(step(held(at=100.0), [Tried(rung=CHAIN[1], held=held(at=None))], deadline=99.0), QueueStart)
    assert isinstance(step(held(at=100.0), [Tried(rung=CHAIN[1], held=held(at=50.0))], deadline=99.0), QueueStart)


def test_what_no_window_ever_lets_run_is_refused() -> None:
    assert isinstance(step(held(at=None, never=True)), RefuseStart)
    assert isinstance(step(held(at=None, never=True), [Tried(rung=CHAIN[1], held=held(at=9.0))]), QueueStart)
