"""`muster init`: writes a muster.yaml and a roster.yaml from a few answers, with comments on what can be changed.

The files are valid, and existing files are never overwritten.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bot.config import loader as config
from bot.config.paths import Paths
from bot.setup import wizard_chat
from bot.setup.wizard_chat import CHATS, SYSTEMS, TOKEN, Chat, WizardAnswers
from bot.text.errors import UserError
from core.secret_references import Reference
from fleet import presets, runtimes
from fleet.launch.launch_plan import DEFAULT_RUNTIME
from fleet.roster import loader as roster
from fleet.roster.schema import MINIMAL, Preset

Ask = Callable[[str, str], str]
"""From a question and the answer that an empty line stands for to an answer."""

DEFAULT_PRESET: Preset = "general"


def init(paths: Paths, answers: WizardAnswers, ask: Ask | None) -> WizardAnswers:
    """Write both files, and return the complete answers.

    Args:
        paths: the installation.
        answers: the answers so far.
        ask: asks a person for the rest; None to use the defaults.

    Raises:
        UserError: a file exists, an answer is missing or wrong, or a folder is not writable.
    """
    there = [path for path in (paths.muster_yaml, paths.roster_yaml) if os.path.lexists(path)]
    if there:
        one = len(there) == 1
        raise UserError(
            f"{' and '.join(map(str, there))} {'is' if one else 'are'} there already, and nothing is overwritten. Edit "
            f"{'it' if one else 'them'}, or move {'it' if one else 'them'} away; `muster config check` says whether "
            "both are valid.",
            code="installation.exists",
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
        raise UserError(f"{path} cannot be written: {error.strerror}.", code="disk.unwritable") from error
    return answers


def next_steps(answers: WizardAnswers, paths: Paths) -> str:
    """Return the next steps for the person."""
    steps = [f"Wrote {paths.muster_yaml} and {paths.roster_yaml}.", ""]
    system = SYSTEMS[answers.chat or "terminal"]
    reference = Reference.parse(answers.token or system.token or TOKEN, folder=paths.config)
    place = f"in the environment variable {reference.name}" if reference.scheme == "env" else f"where {reference} says"
    steps += system.steps(answers, place)
    if answers.absent:
        steps += [
            "",
            f"The agents run on {answers.runtime}, which is not on this machine yet; muster doctor says more.",
        ]
    return "\n".join(steps)


# --- asking ------------------------------------------------------------------------------------------------------


def _asked(answers: WizardAnswers, ask: Ask) -> WizardAnswers:
    meant = wizard_chat.meant(answers)
    if meant is None:
        offered = f"{', '.join(CHATS[:-1])} or {CHATS[-1]}"
        choice = _until(ask, f"Chat system for your fleet: {offered}", CHATS[0], _no_chat)
        meant = CHATS[CHATS.index(choice)]
    chat: Chat = meant
    answers = dataclasses.replace(answers, chat=chat)
    for each in SYSTEMS[chat].questions:
        if getattr(answers, each.answer):
            continue
        said = _until(ask, each.words, each.default, partial(each.wrong, chat))
        taken = (said,) if each.answer == "operators" else said or None
        answers = dataclasses.replace(answers, **{each.answer: taken})  # type: ignore[arg-type]
    if answers.runtime is None:
        names = [name for name in roster.RUNTIMES if name != "custom"]
        runtime = _until(
            ask, f"What your fleet runs on: {', '.join(names)}, or none", _found_runtime() or "none",
            lambda text: None if text in (*names, "none") else f"choose {', '.join(names)} or none",
        )  # fmt: skip
        answers = dataclasses.replace(answers, runtime="" if runtime == "none" else runtime)
    return answers


def _assumed(answers: WizardAnswers) -> WizardAnswers:
    chat = wizard_chat.meant(answers) or "terminal"
    system = SYSTEMS[chat]
    missing = [
        each.option
        for each in system.questions
        if each.needed and not each.default and not getattr(answers, each.answer)
    ]
    if missing:
        raise UserError(
            f"For {chat.title()}, {', '.join(missing)} must be given when nobody is asked.", code="command.usage"
        )
    runtime = answers.runtime if answers.runtime is not None else _found_runtime()
    absent = runtime is None
    runtime = {None: DEFAULT_RUNTIME, "none": ""}.get(runtime, runtime)
    token = answers.token or system.token
    return dataclasses.replace(answers, chat=chat, runtime=runtime, absent=absent, token=token)


def _until(ask: Ask, question: str, default: str, wrong_with: Callable[[str], str | None]) -> str:
    while True:
        answer = ask(question, default).strip() or default
        complaint = wrong_with(answer)
        if complaint is None:
            return answer
        question = f"{complaint}\n{question.rpartition(chr(10))[2]}"


def _no_chat(text: str) -> str | None:
    return None if text in CHATS else f"choose {', '.join(CHATS[:-1])} or {CHATS[-1]}"


def _found_runtime() -> str | None:
    """Return a runtime that is installed here, other than the built-in one."""
    for name in ("claude", "codex", "opencode", "pi"):
        if shutil.which(runtimes.RUNTIMES[name].program):
            return name
    return None


# --- writing -----------------------------------------------------------------------------------------------------


def muster_yaml(answers: WizardAnswers) -> str:
    """Return the settings, with comments."""
    operators = wizard_chat.identities(answers)
    lines = [
        "# Muster's settings. Every key may be left out; `muster config check` says what is wrong with this file.",
        "# Never write secrets here: refer to them with env:NAME, file:PATH or keyring:NAME.",
        "",
        "# The chat systems, any number of them. Without this block: the terminal. `bridge: true` in one has its main",
        "# room mirror that of the fleet, which is the first that is named here.",
        *wizard_chat.lines(answers),
        "",
        "# Who may command the fleet: viewer, operator or admin. The user of this terminal is always admin.",
        *(
            ["operators:", *(f"  {wizard_chat.quoted(each)}: admin" for each in operators)]
            if operators
            else _NO_OPERATORS
        ),
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
    "#     windows: [5h, 7d]  # absent: those that the provider reports",
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
    "#   spread: even  # off: only limits apply",
    "#   burst: 3%  # of a window, ahead of its line",
    "#   borrow: 50%  # of the next day, for work of high urgency",
]
_NO_OPERATORS = ["# operators:", '#   "matrix:@ana:example.org": admin']


def roster_yaml(answers: WizardAnswers) -> str:
    """Return the roster, with comments."""
    if not answers.runtime and answers.preset is None:
        return f"{roster.HEADER}preset: {MINIMAL}\n"
    remark = "not found on this machine: `muster doctor` says how to get it" if answers.absent else ""
    return presets.text(answers.preset or DEFAULT_PRESET, runtime=answers.runtime, remark=remark)


def _validate(contents: dict[Path, str]) -> None:
    """Check the new files by loading them."""
    with tempfile.TemporaryDirectory(prefix="muster-init-") as folder:
        for path, content in contents.items():
            (Path(folder) / path.name).write_text(content, encoding="utf-8")
        found = config.check(Paths(config=Path(folder), state=Path(folder), sockets=Path(folder)))
    if found.problems:
        raise UserError(
            "\n".join(f"{problem.key}: {problem.message}" for problem in found.problems), code="config.invalid"
        )
