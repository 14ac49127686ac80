"""How an agent gets at models: with an account's own key, or by a way out and with a placeholder for the key. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fleet import way as ways
from fleet.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fleet.runtimes import Runtime
    from fleet.sandbox.profiles import Kind
    from fleet.way import Way

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
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


def account_of(runtime: Runtime, named: str | None, accounts: Mapping[str, Account]) -> Account | None:
    """The account that an agent uses: the one that the roster names, else the first that fits its runtime.

    Raises:
        FleetError: there is none of that name.
    """
    if named is not None:
        if named not in accounts:
            known = ", ".join(accounts) or "none"
            raise FleetError(f"No account is called {named!r} in muster.yaml; there is {known}.")
        return accounts[named]
    return next((account for account in accounts.values() if account.provider in runtime.providers), None)


def further(runtime: Runtime, named: str | None, accounts: Mapping[str, Account]) -> tuple[Account, ...]:
    """The first account with each other provider, of a program that may speak to any, unless the roster named one."""
    if runtime.program or named is not None:
        return ()
    first: dict[str, Account] = {}
    for account in accounts.values():
        first.setdefault(account.provider, account)
    return tuple(first.values())[1:]


def check(runtime: Runtime, account: Account | None, kind: Kind) -> None:
    """Refuse who could not get at a model: nobody's login is taken into a sandbox that has no network but its way.

    Raises:
        FleetError: with what to do.
    """
    if kind == "none" or not runtime.login or (account is not None and account.has_credential):
        return
    found = "It has no account" if account is None else f"Its account {account.name} has no credential"
    token = ", such as a token that `claude setup-token` prints" if "anthropic" in runtime.providers else ""
    raise FleetError(
        f"{runtime.title} cannot use a login of its own in a sandbox, which holds no keys. {found}: give it an account "
        f"with a credential in muster.yaml{token}. Or, with your own login on your own machine, an account with "
        "`passthrough: true` together with `sandbox: none`."
    )


def by_way(runtime: Runtime, account: Account, kind: Kind) -> bool:
    """Whether requests with this account go by the way out: without a sandbox, a login that was not declared to go
    through does not."""
    return kind != "none" or account.has_credential or account.passthrough or not runtime.login


def through(account: Account, way: Way, *, login: bool) -> Account:
    """The account as the runtime sees it: another address, and no key.

    Args:
        account: the account.
        way: the agent's way out.
        login: the runtime has a login of its own, which it uses where it is given no key.
    """
    own = login and account.passthrough and not account.has_credential
    key = None if own else ways.placeholder(account.provider, oauth=account.oauth)
    return replace(account, base_url=ways.base_url(way, account.provider), secret=lambda: key)


def variables(accounts: Sequence[Account]) -> dict[str, str]:
    """What clients of these accounts' providers look for in the environment. The accounts are seen `through` a way."""
    found: dict[str, str] = {}
    for account in accounts:
        address, key = _VARIABLES[account.provider]
        found |= {address: account.base_url or "", key: account.secret() or ""}
    return found


def environment(way: Way) -> dict[str, str]:
    """What programs in a sandbox need to find the way out, and to trust the authority that looks into some of it."""
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
