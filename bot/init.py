"""`muster init`: from a few answers to a muster.yaml and a roster.yaml that say what can be changed in them.

What is written is valid, and nothing that is there is ever overwritten.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError

from bot import config
from bot.errors import UserError
from bot.paths import Paths
from fleet import presets, roster, runtimes
from fleet.entries import MINIMAL, Preset
from fleet.planning import DEFAULT_RUNTIME
from register.references import Reference

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[str, str], str]
    """From a question and the answer that an empty line stands for to an answer."""

Chat = Literal["terminal", "matrix"]
CHATS: tuple[Chat, ...] = get_args(Chat)

DEFAULT_PRESET: Preset = "general"

#: Where the bot's access token is looked for unless another place is named.
TOKEN = "env:MUSTER_MATRIX_TOKEN"  # noqa: S105  a place, not a secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What was asked for. None: not said."""

    chat: Chat | None = None
    preset: Preset | None = None
    """The fleet to begin with."""
    homeserver: str | None = None
    user: str | None = None
    """The bot's user."""
    token: str | None = None
    """Where the bot's access token is: a reference."""
    room: str | None = None
    operators: tuple[str, ...] = ()
    """Identities, or users of the chat system."""
    runtime: str | None = None
    """What the agents run on; empty: nobody said, and without a preset there are no agents."""
    absent: bool = False
    """That runtime is not on this machine yet."""


def init(paths: Paths, answers: Answers, ask: Ask | None) -> Answers:
    """Write both files, and return the answers, complete.

    Args:
        paths: where.
        answers: what was said already.
        ask: asks a person for the rest; None: the defaults are taken.

    Raises:
        UserError: a file is there already, an answer is missing or wrong, or a folder cannot be written.
    """
    there = [path for path in (paths.muster_yaml, paths.roster_yaml) if os.path.lexists(path)]
    if there:
        one = len(there) == 1
        raise UserError(
            f"{' and '.join(map(str, there))} {'is' if one else 'are'} there already, and nothing is overwritten. Edit "
            f"{'it' if one else 'them'}, or move {'it' if one else 'them'} away; `muster config check` says whether "
            "both are valid."
        )
    answers = _asked(answers, ask) if ask is not None else _assumed(answers)
    contents = {paths.muster_yaml: muster_yaml(answers), paths.roster_yaml: roster_yaml(answers)}
    _validate(contents)
    paths.prepare()
    written: list[Path] = []
    try:
        for path, content in contents.items():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            written.append(path)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(content)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    return answers


def next_steps(answers: Answers, paths: Paths) -> str:
    """What to do now, for the person."""
    steps = [f"Wrote {paths.muster_yaml} and {paths.roster_yaml}.", ""]
    if answers.chat == "matrix":
        reference = Reference.parse(answers.token or TOKEN, folder=paths.config)
        place = (
            f"in the environment variable {reference.name}" if reference.scheme == "env" else f"where {reference} says"
        )
        steps += [
            f"1. Put the bot's access token {place}.",
            "2. Start Muster: muster up",
            "3. Invite the bot into a room, and write !help there.",
        ]
        if answers.room is None and (answers.runtime or answers.preset):
            steps += [
                "4. Say where the agents' threads belong: connectors.matrix.fleet_room in muster.yaml. Until then the "
                "persistent ones do not come up by themselves; !launch lead starts one in the room where you write it."
            ]
    else:
        steps += ["1. See what this machine has: muster doctor", "2. Start Muster: muster up", "3. Write !help there."]
    if answers.absent:
        steps += [
            "",
            f"The agents run on {answers.runtime}, which is not on this machine yet; muster doctor says more.",
        ]
    return "\n".join(steps)


# --- asking ------------------------------------------------------------------------------------------------------


def _asked(answers: Answers, ask: Ask) -> Answers:
    chat = answers.chat or ("matrix" if answers.homeserver else None)
    if chat is None:
        choice = _until(ask, "Where do you talk to your fleet: terminal or matrix", "terminal", _no_chat)
        chat = "matrix" if choice == "matrix" else "terminal"
    answers = dataclasses.replace(answers, chat=chat)
    if chat == "matrix":
        homeserver = answers.homeserver or _until(
            ask,
            "Address of the homeserver, like https://matrix.example.org",
            "",
            lambda text: wrong("homeserver", text),
        )
        user = answers.user or _until(
            ask, "The bot's user, like @muster:example.org", "", lambda text: wrong("user", text)
        )
        token = answers.token or _until(
            ask, "Where its access token is (env:NAME, file:PATH or keyring:NAME)", TOKEN,
            lambda text: wrong("access_token", text),
        )  # fmt: skip
        room = answers.room
        if room is None:
            room = _until(
                ask, "The fleet's room, like !abc:example.org (empty: wherever you invite the bot)", "",
                lambda text: wrong("rooms", [text]) if text else None,
            )  # fmt: skip
        operators = answers.operators or (
            _until(ask, "You, like @ana:example.org", "", lambda text: wrong("user", text.removeprefix("matrix:"))),
        )
        answers = dataclasses.replace(
            answers, homeserver=homeserver, user=user, token=token, room=room or None, operators=operators
        )
    if answers.runtime is None:
        names = [name for name in roster.RUNTIMES if name != "custom"]
        runtime = _until(
            ask, f"What your fleet runs on: {', '.join(names)}, or none", _found_runtime() or "none",
            lambda text: None if text in (*names, "none") else f"there are {', '.join(names)}, and none",
        )  # fmt: skip
        answers = dataclasses.replace(answers, runtime="" if runtime == "none" else runtime)
    return answers


def _assumed(answers: Answers) -> Answers:
    chat: Chat = answers.chat or ("matrix" if answers.homeserver else "terminal")
    if chat == "matrix":
        missing = [
            option
            for option, value in (
                ("--homeserver", answers.homeserver), ("--user", answers.user), ("--operator", answers.operators),
            )
            if not value
        ]  # fmt: skip
        if missing:
            raise UserError(f"For Matrix, {', '.join(missing)} must be given when nobody is asked.")
    runtime = answers.runtime if answers.runtime is not None else _found_runtime()
    absent = runtime is None
    runtime = {None: DEFAULT_RUNTIME, "none": ""}.get(runtime, runtime)
    token = answers.token or (TOKEN if chat == "matrix" else None)
    return dataclasses.replace(answers, chat=chat, runtime=runtime, absent=absent, token=token)


def _until(ask: Ask, question: str, default: str, wrong_with: Callable[[str], str | None]) -> str:
    while True:
        answer = ask(question, default).strip() or default
        complaint = wrong_with(answer)
        if complaint is None:
            return answer
        question = f"{complaint}\n{question.rpartition(chr(10))[2]}"


def _no_chat(text: str) -> str | None:
    return None if text in CHATS else f"there are {' and '.join(CHATS)}"


def wrong(field: str, value: object) -> str | None:
    """What is wrong with a value of the Matrix block; None when nothing is."""
    from connectors.matrix.settings import MatrixSettings

    try:
        MatrixSettings.model_validate({field: value}, context={"folder": Path("/")})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["loc"][:1] == (field,):
                return str(detail.get("ctx", {}).get("error", detail["msg"]))
    return None


def _found_runtime() -> str | None:
    """A runtime that is installed here, other than the built-in one."""
    for name in ("claude", "codex", "opencode", "pi"):
        if shutil.which(runtimes.RUNTIMES[name].program):
            return name
    return None


# --- writing -----------------------------------------------------------------------------------------------------


def muster_yaml(answers: Answers) -> str:
    """The settings, with comments."""
    matrix = answers.chat == "matrix"
    operators = [each if each.startswith("matrix:") else f"matrix:{each}" for each in answers.operators]
    lines = [
        "# Muster's settings. Every key may be left out; `muster config check` says what is wrong with this file.",
        "# Secrets never stand here: env:NAME, file:PATH and keyring:NAME say where they are.",
        "",
        "# The chat systems. Without this block: the terminal.",
        "connectors:",
        "  terminal:",
    ]
    if matrix:
        lines += [
            "  matrix:",
            f"    homeserver: {_quoted(answers.homeserver)}",
            f"    user: {_quoted(answers.user)}  # the bot",
            f"    access_token: {_quoted(answers.token or TOKEN)}",
            "    # password: env:MUSTER_MATRIX_PASSWORD  # instead of a token: used once, to log in",
            f"    fleet_room: {_quoted(answers.room)}  # the main room"
            if answers.room
            else '    # fleet_room: "!abc:example.org"  # the main room; without it, wherever you speak',
        ]
    else:
        lines += [
            "  # matrix:",
            "  #   homeserver: https://matrix.example.org",
            '  #   user: "@muster:example.org"  # the bot',
            f"  #   access_token: {TOKEN}",
            '  #   fleet_room: "!abc:example.org"  # the main room; without it, wherever you speak',
        ]
    lines += [
        "",
        "# Who may command the fleet: viewer, operator or admin. Whoever owns this machine's terminal is admin anyway.",
        *(["operators:", *(f"  {_quoted(each)}: admin" for each in operators)] if operators else _NO_OPERATORS),
        "",
        'command_prefix: "!"',
        "timezone: UTC  # in which times are shown, like Europe/Vienna",
        "",
        "# Logins and API keys with providers. The egress has them, agents do not. Without one, a runtime that has no",
        "# sandbox uses its own login (`muster login claude`).",
        *_ACCOUNTS,
        "",
        "# What may be spent, in tokens or usd, in a day, week, month or 5h; and then: cutoff, freeze or kill.",
        *_BUDGETS,
        "",
        "# How what remains of a window is spread over its time.",
        *_PACING,
        "",
        "# What holds for agents whose entry in roster.yaml does not say otherwise.",
        "agents:",
        "  # runtime: claude",
        "  # sandbox: bubblewrap  # none lets an agent act as you do",
        "",
        "approvals:",
        "  timeout: 15m  # a request that nobody answers is denied then",
        "delivery:",
        "  give_up_after: 24h  # what cannot be delivered for so long becomes a dead letter",
        "",
    ]
    return "\n".join(lines)


_ACCOUNTS = [
    "# accounts:",
    "#   work:",
    "#     provider: anthropic  # or openai",
    "#     credential: env:ANTHROPIC_API_KEY",
    "#     limit: {usd: 100, window: month}  # what may be used with it in all",
    "#   main:",
    "#     provider: anthropic",
    "#     kind: subscription  # its windows are the provider's; what remains of each is spread over its time",
    "#     credential: env:ANTHROPIC_AUTH_TOKEN",
    "#     windows: [5h, 7d]  # absent: those that the provider tells of",
    "#     serves: {roles: [coder]}  # absent: everything",
    "#     at_once: 4  # sessions at a time",
]
_BUDGETS = [
    "# budgets:",
    "#   agent: {tokens: 2M, window: day}  # each agent that has no limit of its own",
    "#   host:  # all together on this machine",
    "#     - {tokens: 20M, window: day}",
    "#     - {usd: 50, window: month, policy: freeze}",
    "#   roles: {coder: {tokens: 5M, window: day}}  # all agents of a role together",
    "#   agents:",
    "#     coder0: {share: 20%, of: main, window: 7d}  # of a subscription's window",
]
_PACING = [
    "# pacing:",
    "#   spread: even  # off: only limits hold",
    "#   burst: 3%  # of a window, ahead of its line",
    "#   borrow: 50%  # of the next day, for work of high urgency",
]
_NO_OPERATORS = ["# operators:", '#   "matrix:@ana:example.org": admin']


def roster_yaml(answers: Answers) -> str:
    """The roster, with comments."""
    if not answers.runtime and answers.preset is None:
        return f"{roster.HEADER}preset: {MINIMAL}\n"
    remark = "not found on this machine: `muster doctor` says how to get it" if answers.absent else ""
    return presets.text(answers.preset or DEFAULT_PRESET, runtime=answers.runtime, remark=remark)


def _quoted(value: str | None) -> str:
    text = value or ""
    # As it is where YAML reads it as a text in any version, else in double quotes, which JSON shares with YAML.
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./:-]*[A-Za-z0-9]", text) else json.dumps(text, ensure_ascii=False)


def _validate(contents: dict[Path, str]) -> None:
    """Read what is going to be written as it will be read."""
    with tempfile.TemporaryDirectory(prefix="muster-init-") as folder:
        for path, content in contents.items():
            (Path(folder) / path.name).write_text(content, encoding="utf-8")
        found = config.check(Paths(config=Path(folder), state=Path(folder), sockets=Path(folder)))
    if found.problems:
        raise UserError("\n".join(f"{problem.key}: {problem.message}" for problem in found.problems))
