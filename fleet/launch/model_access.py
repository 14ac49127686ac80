"""How an agent gets at models: with an account's own key, or by a way out and with a placeholder for the key. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fleet import model_names
from fleet.errors import FleetError
from fleet.runtimes import Runtime
from fleet.sandbox import egress_grant as ways
from fleet.sandbox.egress_grant import EgressGrant
from fleet.sandbox.profiles import Kind

#: The variables in which a provider's own clients look for their base URL and their key.
_VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
}
_NO_PROXY: Final = "localhost,127.0.0.1,::1"
#: Read by clients that take one file with all authorities: OpenSSL and what is built on it, requests, curl, git, pip.
_BUNDLES: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
)
#: Read by clients that add a file to the authorities that they know (Node.js documentation, "Command-line API"; Codex,
#: "Custom CA certificates").
_ADDED: Final = ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE")


class MayServe(Protocol):
    """Whether an account may be used for such work; `model` None is the runtime's own default."""

    def __call__(self, *, role: str, runtime: str, model: str | None) -> bool: ...


def _everything(*, role: str, runtime: str, model: str | None) -> bool:
    del role, runtime, model
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAccount:
    """A login or API key with one provider."""

    name: str
    provider: str
    base_url: str | None
    secret: Callable[[], str | None]
    """Looks the key up; raises MusterError when it is not where it should be. Not called for an agent with a way out:
    whoever opened the way holds the key."""
    has_credential: bool = True
    """Whether there is a key to look up."""
    oauth: bool = False
    """The key is a token of a subscription."""
    passthrough: bool = False
    """The agent's own login goes through: that of the person who runs Muster, and without a sandbox alone."""
    serves: MayServe = _everything
    """What it may be used for."""


def choices(
    runtime: Runtime, named: str | None, accounts: Mapping[str, ModelAccount], *, role: str, model: str | None
) -> dict[str, tuple[ModelAccount, ...]]:
    """Return the accounts that an agent could use, by provider: that of its model first, and within each in their
    order.

    The one that the roster names goes before all. Only a program that may speak to any provider gets more than one.

    Raises:
        FleetError: there is none of that name, none of those that fit the runtime serves such an agent, or none is of
            the provider that the model's name says.
    """
    if named is not None:
        if named not in accounts:
            known = ", ".join(accounts) or "none"
            raise FleetError(
                f"No account is called {named!r} in muster.yaml; there is {known}.", code="account.unknown"
            )
        _of_its_provider(runtime, model, [accounts[named]])
        return {accounts[named].provider: (accounts[named],)}
    fitting = [account for account in accounts.values() if account.provider in runtime.providers]
    serving = [account for account in fitting if account.serves(role=role, runtime=runtime.name, model=model)]
    if fitting and not serving:
        named_model = f" with the model {model}" if model is not None else ""
        raise FleetError(
            f"No account of muster.yaml serves the role {role} with the runtime {runtime.name}{named_model}: "
            f"{', '.join(account.name for account in fitting)} say so by `serves`. Widen one, or name one for the "
            "agent by `account` in roster.yaml.",
            code="account.none",
        )
    serving = _of_its_provider(runtime, model, serving)
    found: dict[str, tuple[ModelAccount, ...]] = {}
    for account in serving:
        if not found or account.provider in found or not runtime.program:
            found[account.provider] = (*found.get(account.provider, ()), account)
    return found


def _of_its_provider(runtime: Runtime, model: str | None, serving: Sequence[ModelAccount]) -> list[ModelAccount]:
    """Return the accounts that have the model, so that no other model can answer in its place.

    Raises:
        FleetError: none of them has it.
    """
    whose = None if model is None else model_names.provider_of(model, model_names.PROVIDERS)
    having = [account for account in serving if account.provider == whose]
    if whose is None or not serving:
        return list(serving)
    if not runtime.program:
        # A program of the operator's own speaks to several: that of its model goes first.
        return [*having, *(account for account in serving if account not in having)]
    if having:
        return having
    # Behind an address of its own a provider's protocol can lead to any model. A slash is part of such a name, unless
    # the runtime reads it as the provider.
    if all(account.base_url is not None for account in serving) and not ("/" in str(model) and runtime.providers[1:]):
        return list(serving)
    names = ", ".join(f"{account.name} ({account.provider})" for account in serving)
    raise FleetError(
        f"The model {model} is of the provider {whose}, and no account is that {runtime.title} could use: {names}. "
        f"Another model would answer. Give the agent a model of one of these, or an account of {whose} in muster.yaml.",
        code="account.none",
    )


def chosen(found: Mapping[str, tuple[ModelAccount, ...]], leased: Mapping[str, str]) -> tuple[ModelAccount, ...]:
    """Of `choices`, the account of each provider that an agent is on; where it is on none of them, the first.

    Args:
        found: what it could use.
        leased: the names of those that it is on, by provider.
    """
    return tuple(
        next((account for account in each if account.name == leased.get(provider)), each[0])
        for provider, each in found.items()
    )


def check(runtime: Runtime, account: ModelAccount | None, kind: Kind) -> None:
    """Refuse who could not get at a model: no one's login is taken into a sandbox that has no network but its way.

    Raises:
        FleetError: with what to do.
    """
    if kind == "none" or not runtime.login or (account is not None and account.has_credential):
        return
    provider = runtime.providers[0] if account is None else account.provider
    credential = f"credential: env:{provider.upper()}_API_KEY"
    token = ", or a token that `claude setup-token` prints" if runtime.providers == ("anthropic",) else ""
    if account is None:
        todo = f"Add `accounts: {{{provider}: {{provider: {provider}, {credential}}}}}` to muster.yaml"
    else:
        todo = f"Give its account {account.name} a key in muster.yaml, such as `{credential}`"
    raise FleetError(
        f"{runtime.title} has no key, and its sandbox holds no login of its own. {todo}{token}. To use its own login, "
        f"run `muster login {runtime.name}` and give the agent `sandbox: none`, with which it can act as you.",
        code="account.none",
    )


def by_way(runtime: Runtime, account: ModelAccount, kind: Kind) -> bool:
    """Return whether requests with this account go by the way out: without a sandbox, a login that was not declared to
    go through does not."""
    return kind != "none" or account.has_credential or account.passthrough or not runtime.login


def through(account: ModelAccount, way: EgressGrant, *, login: bool) -> ModelAccount:
    """Return the account as the runtime sees it: another address, and no key.

    Args:
        account: the account.
        way: the agent's way out.
        login: the runtime has a login of its own, which it uses where it is given no key.
    """
    own = login and account.passthrough and not account.has_credential
    key = None if own else ways.placeholder(account.provider, oauth=account.oauth)
    return replace(account, base_url=ways.base_url(way, account.provider), secret=lambda: key)


def variables(accounts: Sequence[ModelAccount]) -> dict[str, str]:
    """Return what clients of these accounts' providers look for in the environment. The accounts are seen `through` a
    way."""
    found: dict[str, str] = {}
    for account in accounts:
        address, key = _VARIABLES[account.provider]
        found |= {address: account.base_url or "", key: account.secret() or ""}
    return found


def environment(way: EgressGrant) -> dict[str, str]:
    """Return what programs in a sandbox need to find the way out, and to trust the authority that looks into some of
    it."""
    if way.socket is None:
        return {}
    found = {"NODE_USE_ENV_PROXY": "1"}
    for name, value in (("http_proxy", ways.INSIDE), ("https_proxy", ways.INSIDE), ("no_proxy", _NO_PROXY)):
        found |= {name: value, name.upper(): value}
    if way.bundle_file is not None:
        found |= dict.fromkeys(_BUNDLES, str(way.bundle_file))
    if way.ca_file is not None:
        found |= dict.fromkeys(_ADDED, str(way.ca_file))
    return found
