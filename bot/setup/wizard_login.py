"""How the fleet's runtime logs in: what `muster init` asks, finds and tests.

An answer is a reference to a key, the runtime's own login, or neither. A key that a person enters goes into a file of
Muster's configuration, and never into the answers, which are recorded.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bot.config.paths import Paths
from bot.setup import account_check
from bot.setup.account_check import AccountAnswer
from bot.setup.runtime_login import holds_login, login_home
from bot.setup.wizard_chat import WizardAnswers
from bot.text.errors import UserError
from core.errors import MusterError
from core.secret_references import Reference, Unresolved
from fleet.runtimes import RUNTIMES, Runtime

Ask = Callable[[str, str], str]
"""From a question and the answer that an empty line stands for to an answer."""
Provider = Literal["anthropic", "openai"]

#: Answers that are no references.
ENTER: Final = "key"
OWN: Final = "own"
LATER: Final = "later"

#: Variables of the environment in which a key is offered.
_VARIABLES: Final[Mapping[Provider, tuple[str, ...]]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
    "openai": ("OPENAI_API_KEY",),
}
#: The start of a key of Anthropic's, and of a token that `claude setup-token` prints.
_ANTHROPIC: Final = "sk-ant-"
_SUBSCRIPTION: Final = "sk-ant-oat"
#: Attempts at a key before the question about the login comes again.
_LONGEST_KEY: Final = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What the questions need of the person and of the machine."""

    ask: Ask
    tell: Callable[[str], None]
    secret: Callable[[str], str]
    """Asks for a key without showing it."""
    log_in: Callable[[str], bool]
    """Runs the own login of the runtime of that name, and returns whether it succeeded."""
    environ: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnteredKey:
    """A key that a person entered, and the file for it."""

    path: Path
    key: str = dataclasses.field(repr=False)


def has_login(runtime: str | None) -> bool:
    """Return whether a runtime has to log in somewhere."""
    found = RUNTIMES.get(runtime or "")
    return found is not None and bool(found.login)


def found_keys(runtime: Runtime, environ: Mapping[str, str]) -> list[str]:
    """Return references to the keys in the environment that a runtime could use."""
    return [
        f"env:{name}"
        for provider in runtime.providers
        for name in _VARIABLES[provider]
        if environ.get(name, "").strip()
    ]


def is_logged_in(paths: Paths, runtime: Runtime) -> bool:
    """Return whether `muster login` was run for a runtime."""
    return holds_login(login_home(paths, runtime.name), runtime)


def account(provider: Provider, reference: str, key: str | None) -> str:
    """Return an account as the answers hold it: provider, kind and reference."""
    kind = "subscription" if (key or "").startswith(_SUBSCRIPTION) else "api_key"
    return f"{provider} {kind} {reference}"


def asked(paths: Paths, answers: WizardAnswers, desk: Desk) -> tuple[WizardAnswers, tuple[EnteredKey, ...]]:
    """Ask how the runtime logs in until an answer works, or the person leaves it for later."""
    runtime = RUNTIMES[answers.runtime or ""]
    offered = found_keys(runtime, desk.environ)
    logged_in = is_logged_in(paths, runtime)
    default = offered[0] if offered else OWN if logged_in and answers.sandbox == "none" else ENTER
    there = f"Found here: {', '.join(offered)}.\n" if offered else ""
    token = " or a token that `claude setup-token` prints" if runtime.providers == ("anthropic",) else ""
    question = (
        f"{there}How {runtime.title} logs in: a reference to a key (env:NAME, file:PATH or keyring:NAME), {ENTER} to "
        f"enter a key{token}, {OWN} for its own login, or {LATER}"
    )
    while True:
        said = desk.ask(question, default).strip() or default
        if said == LATER:
            return dataclasses.replace(answers, own_login=False, accounts=()), ()
        if said == OWN:
            if (logged := _own(paths, answers, runtime, desk)) is not None:
                return logged, ()
            continue
        entered: tuple[EnteredKey, ...] = ()
        if said == ENTER:
            key = desk.secret("The key or token (it is not shown)").strip()
            if not key:
                continue
            if not key.isprintable() or len(key) > _LONGEST_KEY or " " in key:
                desk.tell("This is no key: a key is one word. Nothing was kept.")
                continue
        else:
            try:
                reference = Reference.parse(said, folder=paths.config)
                key = reference.resolve(desk.environ)
            except ValueError as error:
                desk.tell(f"Not understood: {error}.")
                continue
            except Unresolved as error:
                desk.tell(str(error))
                continue
        provider = _provider(runtime, said, key, desk)
        if said == ENTER:
            place = paths.config / "keys" / provider
            said, entered = f"file:keys/{provider}", (EnteredKey(path=place, key=key),)
        told = _told(provider, key, answers.base_url)
        desk.tell(f"{_sentence(told)}" if said.startswith("file:keys/") else f"{said}: {_sentence(told)}")
        if told.accepted is False:
            continue
        return dataclasses.replace(answers, own_login=False, accounts=(account(provider, said, key),)), entered


def more(answers: WizardAnswers, installed: list[str], desk: Desk) -> WizardAnswers:
    """Offer the keys in the environment for the other runtimes that are installed here."""
    for name in installed:
        runtime = RUNTIMES[name]
        served = {each.split()[0] for each in answers.accounts}
        if name == answers.runtime or set(runtime.providers) & served:
            continue
        for reference in found_keys(runtime, desk.environ)[:1]:
            question = f"Found here: {reference}. Should agents on {runtime.title} use it too: yes or no"
            if desk.ask(question, "yes").strip().casefold() not in ("yes", "y"):
                continue
            key = Reference.parse(reference).resolve(desk.environ)
            told = _told(runtime.providers[0], key, None)
            desk.tell(f"{reference}: {_sentence(told)}")
            if told.accepted is not False:
                made = account(runtime.providers[0], reference, key)
                answers = dataclasses.replace(answers, accounts=(*answers.accounts, made))
    return answers


def given(paths: Paths, answers: WizardAnswers, word: str | None, environ: Mapping[str, str]) -> WizardAnswers:
    """Return the answers with the login that an option names, or without one the first key found in the environment.

    Raises:
        UserError: the option is not usable, or the provider refuses the key.
    """
    runtime = RUNTIMES[answers.runtime or ""]
    if word == LATER:
        return answers
    if word == ENTER:
        raise UserError(
            "A key cannot be entered without questions. Give --login env:NAME, file:PATH or keyring:NAME.",
            code="command.usage",
        )
    if word == OWN:
        if answers.sandbox != "none":
            raise UserError(
                f"{runtime.title} uses its own login only without a sandbox. Add --sandbox none, which lets agents act "
                "as you do, or give --login a reference to a key.",
                code="command.usage",
            )
        return dataclasses.replace(answers, own_login=True)
    for reference in [word] if word is not None else found_keys(runtime, environ)[:1]:
        try:
            key = Reference.parse(reference, folder=paths.config).resolve(environ)
        except (ValueError, MusterError) as error:
            raise UserError(f"--login: {error}", code="command.usage") from None
        provider = answers.provider or _guessed(runtime, reference, key) or runtime.providers[0]
        told = _told(provider, key, answers.base_url)
        if told.accepted is False:
            if word is None:
                return answers
            raise UserError(f"{reference}: {_sentence(told)} Nothing was written.", code="account.refused")
        return dataclasses.replace(answers, accounts=(account(provider, reference, key),))
    return answers


def keep(entered: EnteredKey) -> None:
    """Write a key that was entered, readable by its owner alone.

    Raises:
        OSError: it cannot be written.
    """
    entered.path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = entered.path.with_name(f".{entered.path.name}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{entered.key}\n")
    os.replace(draft, entered.path)


# --- the parts of a question -------------------------------------------------------------------------------------


def _own(paths: Paths, answers: WizardAnswers, runtime: Runtime, desk: Desk) -> WizardAnswers | None:
    """Return the answers with the runtime's own login, or None if the person does not want it or it failed."""
    if answers.sandbox != "none":
        said = desk.ask(
            f"A sandbox holds no login, so agents on {runtime.title} would run without one: they could read your files "
            "and give Muster orders as you. Do you want that: yes or no",
            "no",
        )
        if said.strip().casefold() not in ("yes", "y"):
            return None
    if not is_logged_in(paths, runtime):
        try:
            done = desk.log_in(runtime.name)
        except MusterError as error:
            desk.tell(str(error))
            return None
        if not done or not is_logged_in(paths, runtime):
            desk.tell(f"{runtime.title} is not logged in. Choose again, or {LATER}.")
            return None
    desk.tell(f"{runtime.title} is logged in.")
    return dataclasses.replace(answers, own_login=True, accounts=(), sandbox="none")


def _provider(runtime: Runtime, reference: str, key: str, desk: Desk) -> Provider:
    guessed = _guessed(runtime, reference, key)
    if guessed is not None:
        return guessed
    while True:
        said = desk.ask(f"Whose key it is: {' or '.join(runtime.providers)}", runtime.providers[0]).strip()
        for provider in runtime.providers:
            if said == provider:
                return provider


def _guessed(runtime: Runtime, reference: str, key: str) -> Provider | None:
    """Return whose key it is, or None if several providers are possible."""
    if len(runtime.providers) == 1:
        return runtime.providers[0]
    if key.startswith(_ANTHROPIC):
        return "anthropic"
    for provider in runtime.providers:
        if reference.removeprefix("env:") in _VARIABLES[provider]:
            return provider
    return None


def _told(provider: Provider, key: str, base_url: str | None) -> AccountAnswer:
    return account_check.check(provider, Reference("env", "KEY"), {"KEY": key}, base_url=base_url)


def _sentence(told: AccountAnswer) -> str:
    if told.accepted is None:
        return f"it could not be tested, and is used as it is: {told.answered}."
    return f"{told.answered}."
