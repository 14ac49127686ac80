"""Which account an agent gets: one that has its model, or none."""

from __future__ import annotations

import pytest

from fleet.errors import FleetError
from fleet.launch.model_access import ModelAccount, choices
from fleet.runtimes import RUNTIMES


def account(name: str, provider: str, base_url: str | None = None) -> ModelAccount:
    return ModelAccount(name=name, provider=provider, base_url=base_url, secret=lambda: "key")


ACCOUNTS = {each.name: each for each in (account("claudes", "anthropic"), account("gpts", "openai"))}


def found(runtime: str, model: str | None, named: str | None = None, **accounts: ModelAccount) -> list[str]:
    some = choices(RUNTIMES[runtime], named, accounts or ACCOUNTS, role="coder", model=model)
    return [each.name for group in some.values() for each in group]


@pytest.mark.parametrize("runtime", ["opencode", "pi"])
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (None, "claudes"),
        ("openai/gpt-5.1", "gpts"),
        ("gpt-5.1", "gpts"),
        ("anthropic/claude-sonnet-4-5", "claudes"),
        ("claude-sonnet-4-5", "claudes"),
        ("house-model", "claudes"),
    ],
)
def test_the_account_follows_the_provider_of_the_model(runtime: str, model: str | None, name: str) -> None:
    assert found(runtime, model) == [name]


@pytest.mark.parametrize(
    ("runtime", "model", "named"),
    [
        ("opencode", "google/gemini-3", None),
        ("pi", "google/gemini-3", None),
        ("opencode", "opencode/free", None),
        ("opencode", "openai/gpt-5.1", "claudes"),
        ("opencode", "gpt-5.1", "claudes"),
        ("codex", "claude-sonnet-4-5", None),
        ("claude", "gpt-5.1", None),
    ],
)
def test_a_model_that_no_account_has_is_refused(runtime: str, model: str, named: str | None) -> None:
    with pytest.raises(FleetError, match="Another model would answer"):
        found(runtime, model, named)


def test_where_only_another_providers_account_is_there_the_launch_is_refused() -> None:
    with pytest.raises(FleetError, match=r"of the provider openai, .*: claudes \(anthropic\)"):
        found("opencode", "openai/gpt-5.1", claudes=ACCOUNTS["claudes"])
    assert found("opencode", "openai/gpt-5.1", gpts=ACCOUNTS["gpts"]) == ["gpts"]


def test_behind_an_address_of_its_own_any_model_may_be() -> None:
    proxy = account("proxy", "anthropic", "https://models.example.org")
    for runtime, model in (("claude", "gpt-5.1"), ("claude", "openai/gpt-5.1"), ("opencode", "gpt-5.1")):
        assert found(runtime, model, proxy=proxy) == ["proxy"]
    with pytest.raises(FleetError):
        # opencode reads the word before the slash as the provider, and would put another model in its place.
        found("opencode", "openai/gpt-5.1", proxy=proxy)


def test_a_program_of_the_operators_own_has_every_provider_that_of_its_model_first() -> None:
    assert found("custom", "gpt-5.1") == ["gpts", "claudes"]
