"""The chat systems in `muster init`: the questions for each, and the settings from their answers.

To add a chat system, add an entry to `SYSTEMS` and its name to `Chat`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from connectors.contract import connector_registry
from connectors.tmux.settings import SESSION
from fleet.roster.schema import Preset

Chat = Literal["terminal", "matrix", "discord", "tmux"]

#: The default references of the bots' tokens.
TOKEN = "env:MUSTER_MATRIX_TOKEN"  # noqa: S105  a place, not a secret
DISCORD_TOKEN = "env:MUSTER_DISCORD_TOKEN"  # noqa: S105  a place, not a secret


@dataclass(frozen=True, kw_only=True, slots=True)
class WizardAnswers:
    """The answers so far; None if not answered."""

    chat: Chat | None = None
    preset: Preset | None = None
    """The initial fleet."""
    homeserver: str | None = None
    user: str | None = None
    """The bot's user."""
    token: str | None = None
    """The reference of the bot's access token."""
    room: str | None = None
    guild: str | None = None
    """The id of the Discord server."""
    channel: str | None = None
    """The id of its channel that is the main room."""
    operators: tuple[str, ...] = ()
    """Identities, or users of the chat system."""
    runtime: str | None = None
    """The runtime of the agents. If it is empty and there is no preset, there are no agents."""
    absent: bool = False
    """Whether that runtime is missing on this machine."""
    sandbox: str | None = None
    """The sandbox of the agents; None is the default."""
    accounts: tuple[str, ...] = ()
    """Accounts, each as its provider, its kind and the reference of its credential, with spaces between."""
    own_login: bool = False
    """Whether the runtime uses its own login."""
    provider: Literal["anthropic", "openai"] | None = None
    """Whose key it is, for a runtime that takes several."""
    base_url: str | None = None
    """The address of the accounts' provider, if it is not the usual one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WizardQuestion:
    """A question of the wizard."""

    answer: str
    """The field of `WizardAnswers` for the answer."""
    option: str
    words: str
    key: str
    """The key of the connector's block that validates the answer."""
    default: str = ""
    needed: bool = True

    def wrong(self, kind: str, text: str) -> str | None:
        """Return what is wrong with an answer, or None if it is valid."""
        if not text and not self.needed:
            return None
        return wrong(kind, self.key, [text] if self.key.endswith("s") else text.removeprefix(f"{kind}:"))


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A chat system."""

    questions: tuple[WizardQuestion, ...]
    block: Callable[[Mapping[str, str | None]], list[str]]
    """Returns the lines of the connector's block, without indentation, from the answers by name."""
    example: Mapping[str, str | None]
    """Answers for the commented-out example block."""
    operator: str
    """An example of a person's name there."""
    steps: Callable[[WizardAnswers, str], list[str]]
    """Returns the next steps, from the answers and the place of the token."""
    token: str | None = None
    """The default reference of the token."""


def _no_block(given: Mapping[str, str | None]) -> list[str]:
    return []


def _terminal_steps(answers: WizardAnswers, token: str) -> list[str]:
    return ["1. See what this machine has: muster doctor", "2. Start Muster: muster up", "3. Write !help there."]


# --- Matrix ------------------------------------------------------------------------------------------------------


def _matrix_block(given: Mapping[str, str | None]) -> list[str]:
    room = given.get("room")
    return [
        f"homeserver: {quoted(given['homeserver'])}",
        f"user: {quoted(given['user'])}  # the bot",
        f"access_token: {quoted(given['token'])}",
        "# password: env:MUSTER_MATRIX_PASSWORD  # instead of a token: used once, to log in",
        f"fleet_room: {quoted(room)}  # the main room"
        if room
        else '# fleet_room: "!abc:example.org"  # the main room; otherwise, the room where you write',
    ]


def _matrix_steps(answers: WizardAnswers, token: str) -> list[str]:
    steps = [
        f"1. Put the bot's access token {token}.",
        "2. Start Muster: muster up",
        "3. Invite the bot into a room, and write !help there.",
    ]
    if answers.room is None and (answers.runtime or answers.preset):
        steps.append(
            "4. Set the room of the agents' threads: `connectors.matrix.fleet_room` in muster.yaml. Until then, "
            "persistent ones do not come up by themselves; !launch lead starts one in the room where you write it."
        )
    return steps


_MATRIX = System(
    questions=(
        WizardQuestion(
            answer="homeserver",
            option="--homeserver",
            words="Address of the homeserver, like https://matrix.example.org",
            key="homeserver",
        ),
        WizardQuestion(answer="user", option="--user", words="The bot's user, like @muster:example.org", key="user"),
        WizardQuestion(
            answer="token",
            option="--token",
            words="Where its access token is (env:NAME, file:PATH or keyring:NAME)",
            key="access_token",
            default=TOKEN,
        ),
        WizardQuestion(
            answer="room",
            option="--room",
            words="The fleet's room, like !abc:example.org or #fleet:example.org (empty: wherever you invite the bot)",
            key="rooms",
            needed=False,
        ),
        WizardQuestion(answer="operators", option="--operator", words="You, like @ana:example.org", key="user"),
    ),
    block=_matrix_block,
    example={"homeserver": "https://matrix.example.org", "user": "@muster:example.org", "token": TOKEN, "room": None},
    operator="@ana:example.org",
    steps=_matrix_steps,
    token=TOKEN,
)

# --- Discord -----------------------------------------------------------------------------------------------------


def _discord_block(given: Mapping[str, str | None]) -> list[str]:
    return [
        f"token: {quoted(given['token'])}",
        f'guild: "{given["guild"]}"  # the server',
        f'channel: "{given["channel"]}"  # the channel that is the main room',
        "# message_content: false  # where the developer portal does not grant that intent",
    ]


def _discord_steps(answers: WizardAnswers, token: str) -> list[str]:
    return [
        f"1. Put the bot's token {token}.",
        "2. Invite the bot into the server: docs/how-to/discord.md says with which permissions.",
        "3. Start Muster: muster up",
        "4. Write !help in the channel.",
    ]


_DISCORD = System(
    questions=(
        WizardQuestion(
            answer="token",
            option="--token",
            words="Where the bot's token is (env:NAME, file:PATH or keyring:NAME)",
            key="token",
            default=DISCORD_TOKEN,
        ),
        WizardQuestion(
            answer="guild",
            option="--guild",
            words="The server's id, a number (developer mode on, then right-click it)",
            key="guild",
        ),
        WizardQuestion(
            answer="channel", option="--channel", words="The id of the channel that is the main room", key="channel"
        ),
        WizardQuestion(answer="operators", option="--operator", words="You, by your user id, a number", key="guild"),
    ),
    block=_discord_block,
    example={"token": DISCORD_TOKEN, "guild": "123456789012345678", "channel": "234567890123456789"},
    operator="345678901234567890",
    steps=_discord_steps,
    token=DISCORD_TOKEN,
)

# --- tmux --------------------------------------------------------------------------------------------------------


def _tmux_block(given: Mapping[str, str | None]) -> list[str]:
    return [
        "fleet_room: fleet  # agents' threads belong here, and not into the terminal",
        f"session: {SESSION}  # the tmux session with the pane; it is made where there is none",
        "# socket: work  # another server than tmux's default one, as for tmux -L",
    ]


def _tmux_steps(answers: WizardAnswers, token: str) -> list[str]:
    return [
        "1. See what this machine has: muster doctor",
        "2. Start Muster: muster up --detach",
        f"3. Look into tmux: tmux -L default attach -t {SESSION}",
        "4. Write !help there.",
    ]


SYSTEMS: Mapping[Chat, System] = {
    "terminal": System(questions=(), block=_no_block, example={}, operator="ana", steps=_terminal_steps),
    "matrix": _MATRIX,
    "discord": _DISCORD,
    "tmux": System(questions=(), block=_tmux_block, example={}, operator="ana", steps=_tmux_steps),
}
CHATS: tuple[Chat, ...] = tuple(SYSTEMS)


def meant(answers: WizardAnswers) -> Chat | None:
    """Return the chat system that the answers refer to, or None if unclear."""
    if answers.chat is not None:
        return answers.chat
    if answers.homeserver:
        return "matrix"
    return "discord" if answers.guild or answers.channel else None


def lines(answers: WizardAnswers) -> list[str]:
    """Return the block `connectors` of muster.yaml: the terminal, the chosen system, and the others as comments."""
    written = ["connectors:", "  terminal:"]
    for name, system in SYSTEMS.items():
        if name == answers.chat:
            given = {each.answer: getattr(answers, each.answer) for each in system.questions}
            block = system.block({**given, "token": answers.token or system.token})
            written += [] if not block else [f"  {name}:", *(f"    {line}" for line in block)]
        elif block := [line for line in system.block(system.example) if not line.startswith("# password")]:
            written += [f"  # {name}:", *(f"  #   {line.removeprefix('# ')}" for line in block)]
    return written


def identities(answers: WizardAnswers) -> list[str]:
    """Return the operators' identities, each with its connector."""
    kind = answers.chat or "terminal"
    return [each if each.startswith(f"{kind}:") else f"{kind}:{each}" for each in answers.operators]


def wrong(kind: str, key: str, value: object) -> str | None:
    """Return what is wrong with a value of a connector's block, or None if it is valid."""
    try:
        connector_registry.settings_model(kind).model_validate({key: value}, context={"folder": Path("/")})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][:1] == (key,):
                return str(detail.get("ctx", {}).get("error", detail["msg"]))
    return None


def quoted(value: str | None) -> str:
    """Return `value` as YAML: plain if every YAML version reads it as text, or else in JSON quotes."""
    text = value or ""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./:-]*[A-Za-z0-9]", text) else json.dumps(text, ensure_ascii=False)
