"""Credentials that only the orchestrator knows, at an egress that has just started."""

from __future__ import annotations

import asyncio

import pytest

from egress.upstream.credentials import Credentials, NoCredential

NAME = "env:NOT_IN_THIS_ENVIRONMENT"


async def test_who_asks_before_the_orchestrator_has_told_waits_for_it() -> None:
    credentials = Credentials()
    waiting = [asyncio.create_task(credentials.get(NAME)) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    credentials.push({NAME: "told"})
    assert await asyncio.gather(*waiting) == ["told"] * 3


async def test_what_was_not_told_is_asked_for_in_vain_at_once() -> None:
    credentials = Credentials()
    credentials.push({})
    with pytest.raises(NoCredential, match="NOT_IN_THIS_ENVIRONMENT"):
        async with asyncio.timeout(5):
            await credentials.get(NAME)


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egress.upstream.credentials.TOLD_S", 0.05)
    with pytest.raises(NoCredential, match="NOT_IN_THIS_ENVIRONMENT"):
        async with asyncio.timeout(5):
            await Credentials().get(NAME)


async def test_what_is_in_its_own_environment_is_had_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAD_ANYWAY", "of-its-own")
    async with asyncio.timeout(5):
        assert await Credentials().get("env:HAD_ANYWAY") == "of-its-own"
