"""Where people talk to their fleet: what `muster init` asks for each chat system, and what it writes of it.

A chat system more is an entry in `SYSTEMS`, and its name in `Chat`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from connectors.contract import connector_registry
from connectors.tmux.settings import SESSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bot.setup.wizard import WizardAnswers

Chat = Literal["terminal", "matrix", "discord", "tmux"]

#: Where the bot's access token is looked for unless another place is named.
TOKEN = "env:MUSTER_MATRIX_TOKEN"  # noqa: S105  a place, not a secret
DISCORD_TOKEN = "env:MUSTER_DISCORD_TOKEN"  # noqa: S105  a place, not a secret


@dataclass(frozen=True, kw_only=True, slots=True)
class WizardQuestion:
    """One thing to ask."""

    answer: str
    """The field of `Answers` that it fills."""
    option: str
    words: str
    key: str
    """The key of the connector's block whose rules hold for it."""
    default: str = ""
    needed: bool = True

    def wrong(self, kind: str, text: str) -> str | None:
        """Return what is wrong with an answer; None when nothing is."""
        if not text and not self.needed:
            return None
        return wrong(kind, self.key, [text] if self.key.endswith("s") else text.removeprefix(f"{kind}:"))


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One chat system."""

    questions: tuple[WizardQuestion, ...]
    block: Callable[[Mapping[str, str | None]], list[str]]
    """From the answers by name to the lines of the connector's block, without what stands before them."""
    example: Mapping[str, str | None]
    """Answers for the block that others have as a comment."""
    operator: str
    """How a person is named there."""
    steps: Callable[[WizardAnswers, str], list[str]]
    """What to do then, from the answers and where the token belongs."""
    token: str | None = None
    """Where the token is looked for unless another place is named."""


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
        else '# fleet_room: "!abc:example.org"  # the main room; without it, wherever you speak',
    ]


def _matrix_steps(answers: WizardAnswers, token: str) -> list[str]:
    steps = [
        f"1. Put the bot's access token {token}.",
        "2. Start Muster: muster up",
        "3. Invite the bot into a room, and write !help there.",
    ]
    if answers.room is None and (answers.runtime or answers.preset):
        steps.append(
            "4. Say where the agents' threads belong: connectors.matrix.fleet_room in muster.yaml. Until then the "
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
    """Return which chat system the answers speak of; None: they do not say."""
    if answers.chat is not None:
        return answers.chat
    if answers.homeserver:
        return "matrix"
    return "discord" if answers.guild or answers.channel else None


def lines(answers: WizardAnswers) -> list[str]:
    """Return the block `connectors` of muster.yaml: the terminal, the chosen one, and the others as comments."""
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
    """Return the operators, each with the connector in front."""
    kind = answers.chat or "terminal"
    return [each if each.startswith(f"{kind}:") else f"{kind}:{each}" for each in answers.operators]


def wrong(kind: str, key: str, value: object) -> str | None:
    """Return what is wrong with a value of a connector's block; None when nothing is."""
    try:
        connector_registry.settings_model(kind).model_validate({key: value}, context={"folder": Path("/")})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][:1] == (key,):
                return str(detail.get("ctx", {}).get("error", detail["msg"]))
    return None


def quoted(value: str | None) -> str:
    """`value` as YAML: as it is where YAML reads it as a text in any version, else in quotes, which JSON shares."""
    text = value or ""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./:-]*[A-Za-z0-9]", text) else json.dumps(text, ensure_ascii=False)
