"""`muster init`: writes a muster.yaml and a roster.yaml from a few answers, with comments on what can be changed.

The files are valid, and existing files are never overwritten. A muster.yaml that is there already, for example from
`muster-homeserver`, keeps its chat systems and everything else: accounts are added to it.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bot.config import loader as config
from bot.config.paths import Paths
from bot.config.schema import Settings
from bot.setup import muster_yaml_editor, wizard_chat, wizard_login
from bot.setup.wizard_chat import CHATS, SYSTEMS, TOKEN, WizardAnswers
from bot.setup.wizard_login import Ask, Desk, EnteredKey
from bot.text.errors import UserError
from core.secret_references import Reference
from fleet import presets, runtimes
from fleet.launch.launch_plan import DEFAULT_RUNTIME
from fleet.roster import loader as roster
from fleet.roster.schema import MINIMAL, Preset
from fleet.sandbox import profiles, selection

#: The answer that repeats the question before.
BACK = "back"
DEFAULT_PRESET: Preset = "general"


def init(
    paths: Paths,
    answers: WizardAnswers,
    ask: Ask | Desk | None,
    *,
    login: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> WizardAnswers:
    """Write the files, and return the complete answers. Nothing is written before the last answer.

    If there is a muster.yaml and no roster.yaml, muster.yaml is kept, and only what it lacks is asked and added; the
    answers then name no chat system.

    Args:
        paths: the installation.
        answers: the answers so far.
        ask: asks a person for the rest; None to use the defaults.
        login: how the runtime logs in: a reference, `own` or `later`; None to ask, or to look for a key.
        environ: the environment in which keys are looked for; by default, none.

    Raises:
        UserError: a file exists, an answer is missing or wrong, or a folder is not writable.
    """
    kept = _kept(paths, answers)
    entered: tuple[EnteredKey, ...] = ()
    if ask is None:
        answers = _assumed(paths, answers, login, environ or {}, kept)
    else:
        desk = ask if isinstance(ask, Desk) else _desk(ask, environ or {})
        answers, entered = _asked(paths, answers, desk, login, kept)
    contents = {paths.roster_yaml: roster_yaml(answers)}
    if kept is None:
        contents[paths.muster_yaml] = muster_yaml(answers)
    _validate(contents)
    paths.prepare()
    written: list[Path] = []
    path = paths.config
    try:
        for key in entered:
            path = key.path
            wizard_login.keep(key)
        for path, content in contents.items():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            written.append(path)
            with open(handle, "w", encoding="utf-8") as file:
                file.write(content)
        if kept is not None:
            muster_yaml_editor.edit(paths, partial(_completed, answers))
    except BaseException as error:  # an interruption too leaves nothing that is half-written
        for each in written:
            each.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{path} cannot be written: {error.strerror}.", code="disk.unwritable") from error
    return answers


def _kept(paths: Paths, answers: WizardAnswers) -> Settings | None:
    """Return the settings of a muster.yaml that stays, or None if there is none.

    Raises:
        UserError: there is a roster.yaml already, or the answers would change a chat system of that file.
        ConfigError: the file is not valid.
    """
    there = [path for path in (paths.muster_yaml, paths.roster_yaml) if os.path.lexists(path)]
    if not there:
        return None
    if paths.roster_yaml in there or not paths.muster_yaml.is_file():
        one = len(there) == 1
        raise UserError(
            f"{' and '.join(map(str, there))} {'is' if one else 'are'} there already, and nothing is overwritten. Edit "
            f"{'it' if one else 'them'}, or move {'it' if one else 'them'} away; `muster config check` says whether "
            "both are valid.",
            code="installation.exists",
        )
    settings = config.load(paths)
    questions = [question for system in SYSTEMS.values() for question in system.questions]
    asked_for = [question.option for question in questions if getattr(answers, question.answer)]
    if answers.chat or answers.token or asked_for:
        given = ", ".join(dict.fromkeys([*(["--chat"] if answers.chat else []), *asked_for])) or "--token"
        raise UserError(
            f"{paths.muster_yaml} is there already and keeps its chat systems, so {given} has no effect. Leave it out, "
            "and edit `connectors` there.",
            code="installation.exists",
        )
    return settings


def _completed(answers: WizardAnswers, content: muster_yaml_editor.Content) -> bool:
    """Add what the answers bring to the content of a muster.yaml, and return whether it lacked something."""
    changed = False
    accounts = content.setdefault("accounts", {}) or {}
    for name, account in _account_blocks(answers).items():
        if name not in accounts:
            accounts[name] = account
            changed = True
    if accounts:
        content["accounts"] = accounts
    else:
        del content["accounts"]
    if answers.sandbox is not None:
        defaults = content.setdefault("agents", {}) or {}
        if defaults.get("sandbox") != answers.sandbox:
            defaults["sandbox"] = answers.sandbox
            content["agents"] = defaults
            changed = True
    return changed


def next_steps(answers: WizardAnswers, paths: Paths, lacking: Sequence[str] = ()) -> str:
    """Return the next steps for the person.

    Args:
        answers: the answers.
        paths: the installation.
        lacking: why agents of the new roster cannot start yet, one line for each reason.
    """
    if answers.chat is None:
        added = ", ".join(f"accounts.{name}" for name in _account_blocks(answers))
        more = f", and added {added} to {paths.muster_yaml}" if added else ""
        steps = [f"Wrote {paths.roster_yaml}{more}. The chat systems of muster.yaml stay as they are.", ""]
    else:
        steps = [f"Wrote {paths.muster_yaml} and {paths.roster_yaml}.", ""]
    system = SYSTEMS[answers.chat or "terminal"]
    reference = Reference.parse(answers.token or system.token or TOKEN, folder=paths.config)
    place = f"in the environment variable {reference.name}" if reference.scheme == "env" else f"where {reference} says"
    steps += system.steps(answers, place)
    if lacking:
        steps += ["", "Before `muster up`:", *(f"- {line}" for line in lacking)]
    if answers.absent:
        steps += [
            "",
            f"The agents run on {answers.runtime}, which is not on this machine yet; muster doctor says more.",
        ]
    return "\n".join(steps)


# --- asking ------------------------------------------------------------------------------------------------------


class _Back(Exception):
    """The person wants to change the answer before."""


def _desk(ask: Ask, environ: Mapping[str, str]) -> Desk:
    """Return what the questions need, where keys cannot be entered and nobody logs in."""
    return Desk(ask=ask, tell=lambda line: None, secret=lambda _: "", log_in=lambda _: False, environ=environ)


def _asked(
    paths: Paths, answers: WizardAnswers, desk: Desk, login: str | None, kept: Settings | None
) -> tuple[WizardAnswers, tuple[EnteredKey, ...]]:
    """Ask the questions in their order; the answer `back` repeats the one before."""

    questions = 0

    def ask(question: str, default: str) -> str:
        nonlocal questions
        questions += 1
        answer = desk.ask(question, default)
        if answer.strip().casefold() == BACK:
            raise _Back
        return answer

    listening = dataclasses.replace(desk, ask=ask)
    entered: tuple[EnteredKey, ...] = ()
    done: list[tuple[str, WizardAnswers, bool]] = []
    while True:
        step = next((each for each in _steps(answers, login, kept) if each not in [name for name, _, _ in done]), None)
        if step is None:
            return answers, entered
        before, so_far = answers, questions
        try:
            if step == "login":
                answers, entered = wizard_login.asked(paths, answers, listening)
            elif step == "given":
                answers = wizard_login.given(paths, answers, login, desk.environ)
            elif step == "more":
                answers = wizard_login.more(answers, _found_runtimes(), listening)
            else:
                answers = _answered(step, answers, listening)
        except _Back:
            # What an option or this machine answered is not asked again.
            while done:
                _, answers, was_asked = done.pop()
                if was_asked:
                    break
            continue
        done.append((step, before, questions > so_far))


def _steps(answers: WizardAnswers, login: str | None, kept: Settings | None) -> Iterator[str]:
    """Yield the questions to ask, as far as the answers so far decide."""
    if kept is None:
        meant = wizard_chat.meant(answers)
        yield "chat"
        if meant is None:
            return
        for each in SYSTEMS[meant].questions:
            yield each.answer
    yield "runtime"
    if answers.runtime and (kept is None or kept.agents.sandbox is None):
        yield "sandbox"
    if wizard_login.has_login(answers.runtime) and not _has_account(answers, kept):
        if login is not None:
            yield "given"
        else:
            yield "login"
            yield "more"


def _has_account(answers: WizardAnswers, kept: Settings | None) -> bool:
    """Return whether the runtime of the answers has an account in the settings that stay."""
    providers = runtimes.RUNTIMES[answers.runtime].providers if answers.runtime else ()
    return kept is not None and any(account.provider in providers for account in kept.accounts.values())


def _answered(step: str, answers: WizardAnswers, desk: Desk) -> WizardAnswers:
    """Return the answers with that of one question, which may be there already."""
    ask = desk.ask
    meant = wizard_chat.meant(answers)
    if step == "chat":
        if meant is None:
            offered = f"{', '.join(CHATS[:-1])} or {CHATS[-1]}"
            choice = _until(ask, f"Chat system for your fleet: {offered}", CHATS[0], _no_chat)
            meant = CHATS[CHATS.index(choice)]
        return dataclasses.replace(answers, chat=meant)
    if step == "runtime":
        if answers.runtime is not None:
            return answers
        names = [name for name in roster.RUNTIMES if name != "custom"]
        runtime = _until(
            ask, f"What your fleet runs on: {', '.join(names)}, or none", _found_runtime() or "none",
            lambda text: None if text in (*names, "none") else f"choose {', '.join(names)} or none",
        )  # fmt: skip
        return dataclasses.replace(answers, runtime="" if runtime == "none" else runtime)
    if step == "sandbox":
        if answers.sandbox is not None or (found := selection.available()).works:
            return answers
        chosen = _until(
            ask,
            f"No sandbox works here: {found.reason}\nWithout one, agents could read your files and give Muster orders "
            "as you. bubblewrap to wait for one, or none",
            profiles.DEFAULT,
            lambda text: None if text in (profiles.DEFAULT, "none") else f"choose {profiles.DEFAULT} or none",
        )
        return dataclasses.replace(answers, sandbox="none" if chosen == "none" else None)
    assert meant is not None
    each = next(question for question in SYSTEMS[meant].questions if question.answer == step)
    if getattr(answers, step):
        return answers
    said = _until(ask, each.words, each.default, partial(each.wrong, meant))
    taken = (said,) if step == "operators" else said or None
    return dataclasses.replace(answers, **{step: taken})  # type: ignore[arg-type]


def _assumed(
    paths: Paths, answers: WizardAnswers, login: str | None, environ: Mapping[str, str], kept: Settings | None
) -> WizardAnswers:
    if kept is None:
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
        answers = dataclasses.replace(answers, chat=chat, token=answers.token or system.token)
    runtime = answers.runtime if answers.runtime is not None else _found_runtime()
    absent = runtime is None
    runtime = {None: DEFAULT_RUNTIME, "none": ""}.get(runtime, runtime)
    answers = dataclasses.replace(answers, runtime=runtime, absent=absent)
    if wizard_login.has_login(runtime) and (login is not None or not _has_account(answers, kept)):
        return wizard_login.given(paths, answers, login, environ)
    return answers


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
    return next(iter(_found_runtimes()), None)


def _found_runtimes() -> list[str]:
    """Return the runtimes that are installed here, other than the built-in one."""
    return [name for name in ("claude", "codex", "opencode", "pi") if shutil.which(runtimes.RUNTIMES[name].program)]


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
        *_accounts(answers),
        "",
        "# What may be spent, in tokens or usd, in a day, week, month or 5h; and then: cutoff, freeze or kill.",
        *_BUDGETS,
        "",
        "# How what remains of a window is spread over its time.",
        *_PACING,
        "",
        "# Issues of a forge that become pull requests: docs/how-to/forge.md.",
        *_FORGE,
        "",
        "# The dashboard for browsers, on this machine: docs/how-to/web.md.",
        "# web: {}",
        "",
        "# What holds for agents whose entry in roster.yaml does not say otherwise.",
        "agents:",
        "  # runtime: claude",
        f"  {'' if answers.sandbox else '# '}sandbox: {answers.sandbox or profiles.DEFAULT}  "
        "# none lets an agent act as you do",
        "",
        "approvals:",
        "  # preset: sandboxed  # agents in a sandbox do not ask; absent: they ask everything",
        "  timeout: 15m  # a request that nobody answers is denied then",
        "delivery:",
        "  give_up_after: 24h  # what cannot be delivered for so long becomes a dead letter",
        "",
    ]
    return "\n".join(lines)


def _account_blocks(answers: WizardAnswers) -> dict[str, dict[str, str | bool]]:
    """Return the accounts of the answers by name, as muster.yaml has them."""
    blocks: dict[str, dict[str, str | bool]] = {}
    for each in answers.accounts:
        provider, kind, reference = each.split(maxsplit=2)
        blocks[provider] = {"provider": provider, "credential": reference}
        if kind == "subscription":
            blocks[provider]["kind"] = kind
        if answers.base_url is not None:
            blocks[provider]["base_url"] = answers.base_url
    if answers.own_login and answers.runtime == "claude":
        # The runtime's own login, without a sandbox.
        blocks["own"] = {"provider": "anthropic", "kind": "subscription", "passthrough": True}
    return blocks


def _accounts(answers: WizardAnswers) -> list[str]:
    """Return the block `accounts`: those of the answers, and examples as comments."""
    lines = []
    for name, block in _account_blocks(answers).items():
        lines.append(f"  {name}:")
        for key, value in block.items():
            written = "true  # the runtime's own login, without a sandbox" if value is True else None
            lines.append(f"    {key}: {written or wizard_chat.quoted(str(value))}")
    return ["accounts:", *lines, *_ACCOUNTS[1:]] if lines else _ACCOUNTS


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
_FORGE = [
    "# forge:",
    "#   kind: gitea  # also for Forgejo; or github, without url",
    "#   url: https://git.example.org",
    "#   token: env:MUSTER_FORGE_TOKEN",
    "#   organization: acme  # whose members may have agents work",
    "#   repositories: [acme/app]",
    "#   sandbox: bubblewrap  # of issues that name none",
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
