"""What only a shell can do: run the processes themselves, talk at a prompt, write configuration."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from bot.config.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bot.config.loader import Check
    from bot.read_models.limits import LimitsModel


#: Choices of `init`. They repeat fleet.roster.schema.PRESETS and bot.setup.wizard_chat.CHATS, so that `--help` does not
#: import these.
_FLEETS = ("minimal", "general", "coding", "research", "hybrid")
_CHATS = ("terminal", "matrix", "discord", "tmux")
_AS_CHAT = f"{', '.join(_CHATS[:-1])} and {_CHATS[-1]}"


@contextlib.contextmanager
def _objects_kept() -> Iterator[None]:
    """Do no garbage collection during imports, and never look through what they made.

    Imported objects stay alive. Each full collection would look at all of them, which takes a fifth of the start time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@click.command()
@click.option("--detach", is_flag=True, help="Run in the background and return once it is up.")
@click.option("--demo", is_flag=True, help="Run a fleet of built-in agents that work on a small repository.")
@click.option("--web", is_flag=True, help="With --demo: show the dashboard for browsers as well.")
@click.option("--unattended", is_flag=True, help="Run in the foreground without a prompt, as a service does.")
@click.option("--no-agents", is_flag=True, help="Do not start the roster's persistent agents.")
def up(detach: bool, demo: bool, web: bool, unattended: bool, no_agents: bool) -> int:
    """Start Muster and its persistent agents. If the terminal is a connector, this becomes its prompt."""
    import asyncio

    if web and not demo:
        raise click.UsageError("--web is for the demo. For your own fleet, write `web: {}` into muster.yaml.")
    if demo:
        if detach or unattended:
            raise click.UsageError("--demo runs in the foreground; leave --detach and --unattended out.")
        with _objects_kept():
            from bot.app.demo import demo as play

        return asyncio.run(play(os.environ, live=sys.stdin.isatty() and sys.stdout.isatty(), web=web))
    if detach:
        if unattended:
            raise click.UsageError("--detach is unattended already; leave --unattended out.")
        from bot.setup import preflight
        from bot.setup.daemon import start

        click.echo(start(Paths.of(os.environ), os.environ, bring_up=not no_agents))
        for line in preflight.warnings(Paths.of(os.environ), os.environ, agents=not no_agents):
            click.echo(f"warning: {line}", err=True)
        return 0
    with _objects_kept():
        from bot.app.foreground import up as run
    at_keyboard = not unattended and not _no_input()
    if not unattended and not at_keyboard:
        click.echo(
            "There is no terminal, so Muster runs unattended. `muster chat` opens a prompt to it, and `muster down` "
            "stops it.",
            err=True,
        )
    return asyncio.run(run(Paths.of(os.environ), os.environ, at_keyboard=at_keyboard, bring_up=not no_agents))


def _no_input() -> bool:
    """Return whether standard input can bring no words: a container, nohup or a service manager closed it."""
    import stat

    try:
        found = os.fstat(0)
        if os.isatty(0):
            return False
        os.read(0, 0)
    except OSError:
        return True  # closed, or opened for writing only, as nohup does
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev


@click.command()
@click.option("--all", "agents_too", is_flag=True, help="Also stop all agents at once, and the egress.")
def down(agents_too: bool) -> int:
    """Stop Muster. Agents keep working, and Muster catches up when it starts again."""
    from bot.setup.daemon import stop

    click.echo(stop(Paths.of(os.environ), agents_too=agents_too))
    return 0


@click.command()
def chat() -> int:
    """Open a prompt to the running Muster."""
    import asyncio

    from bot.interfaces.cli.terminal.chat_client import chat as talk

    return asyncio.run(talk(Paths.of(os.environ)))


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--control",
    is_flag=True,
    help="Let your keys reach tmux, to scroll, copy, and open or close windows. They never reach the agent.",
)
def attach(name: str, control: bool) -> int:
    """Show the tmux session of an agent as it works.

    You only watch: no keys reach the agent. Leave with Ctrl-b d, unless you changed tmux's keys. Use send to write to
    the
    agent, and stop to stop it. With --control you can scroll and close windows; closing the session does not end the
    agent.
    """
    from bot.interfaces.cli.terminal.attach import attach as look

    look(Paths.of(os.environ), name, os.environ, control=control)
    return 1


@click.command()
@click.option("--light", is_flag=True, help="Begin with the light theme. T changes it.")
def dashboard(light: bool) -> int:
    """Show the fleet in this terminal, live, and act on it by keys: ? lists them.

    While Muster is down it shows what agents and their journals say, and stop, kill, freeze, resume, cutoff, restore
    and estop work.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("The dashboard needs a terminal. `muster ps` and `muster health` print the same facts.")
    with _objects_kept():
        from bot.interfaces.tui.start import run

    run(Paths.of(os.environ), light=light, limits=_limits_without_muster)
    return 0


def _limits_without_muster(paths: Paths) -> LimitsModel | None:
    from bot.spending import offline_limits  # it loads pydantic, and Muster rarely is down

    return offline_limits.load(paths)


@click.command("init")
@click.option(
    "--preset",
    "wanted",
    type=click.Choice([*_FLEETS, *_CHATS]),
    multiple=True,
    metavar="PRESET",
    help=f"The fleet to begin with: {', '.join(_FLEETS)}; absent: general. {_AS_CHAT} are taken as --chat.",
)
@click.option("--chat", type=click.Choice(_CHATS), help="The chat system for the fleet.")
@click.option("--homeserver", metavar="URL", help="The address of the Matrix homeserver.")
@click.option("--user", metavar="ID", help="The bot's Matrix user, like @muster:example.org.")
@click.option(
    "--token", metavar="REFERENCE", help="A reference to the bot's token: env:NAME, file:PATH or keyring:NAME."
)
@click.option("--room", metavar="ID", help="The fleet's room on Matrix, such as !abc:example.org.")
@click.option("--guild", metavar="ID", help="The id of the Discord server.")
@click.option("--channel", metavar="ID", help="The id of the main room's channel.")
@click.option(
    "--operator",
    "operators",
    metavar="ID",
    multiple=True,
    help="The first admin, such as @ana:example.org, or a user id on Discord.",
)
@click.option("--runtime", metavar="NAME", help="The agents' runtime; none for a roster without agents.")
@click.option(
    "--login",
    metavar="REFERENCE",
    help="How the runtime logs in: a reference to a key (env:NAME, file:PATH or keyring:NAME), own for its own login, "
    "or later. Absent: asked; with --yes, a key found in the environment.",
)
@click.option("--provider", type=click.Choice(["anthropic", "openai"]), help="Whose key it is, for opencode and pi.")
@click.option("--base-url", metavar="URL", help="The provider's address, if it is not the usual one.")
@click.option(
    "--sandbox", type=click.Choice(["bubblewrap", "none"]), help="The agents' sandbox. none lets them act as you."
)
@click.option("--yes", is_flag=True, help="Do not ask; use the options and defaults.")
def init(yes: bool, wanted: Sequence[str], chat: str | None, login: str | None, **given: Any) -> int:
    """Write muster.yaml and roster.yaml. Nothing that exists is overwritten.

    A muster.yaml without a roster.yaml beside it is kept, and accounts are added to it.
    The answer back repeats the question before. Ctrl-C writes nothing.
    """
    from bot.config.loader import check
    from bot.maintenance.update.default_files import remember
    from bot.setup.agent_readiness import of_installation
    from bot.setup.blocked_agents import in_words
    from bot.setup.wizard import init as write
    from bot.setup.wizard import next_steps
    from bot.setup.wizard_chat import WizardAnswers
    from bot.setup.wizard_login import Desk

    paths = Paths.of(os.environ)

    def ask(question: str, default: str) -> str:
        answer: str = click.prompt(question, default=default, show_default=bool(default))
        return answer

    def secret(question: str) -> str:
        answer: str = click.prompt(question, default="", show_default=False, hide_input=True)
        return answer

    def log_in(runtime: str) -> bool:
        from bot.setup.runtime_login import login as enter

        return enter(paths, runtime, click.echo) == 0

    desk = Desk(ask=ask, tell=click.echo, secret=secret, log_in=log_in, environ=os.environ)
    fleets = [each for each in wanted if each in _FLEETS]
    chats = [each for each in (*wanted, chat) if each in _CHATS]
    if len(set(fleets)) > 1 or len(set(chats)) > 1:
        raise click.UsageError(f"One of these at a time: {', '.join(fleets if len(set(fleets)) > 1 else chats)}.")
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("There is nobody to ask: add --yes, and give what matters as options.")
    said = {"preset": next(iter(fleets), None), "chat": next(iter(chats), None), **given}
    if not yes:
        click.echo(
            "An empty answer takes the one in brackets. back repeats the question before, Ctrl-C writes nothing."
        )
    answers = write(paths, WizardAnswers(**said), None if yes else desk, login=login, environ=os.environ)
    if answers.chat is not None:
        remember(paths, answers)
    found = check(paths)
    lacking = (
        []
        if found.settings is None or found.roster is None
        else in_words(of_installation(paths, found.settings, os.environ, found.roster))
    )
    click.echo(next_steps(answers, paths, lacking))
    return 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
def config_check(as_json: bool) -> int:
    """Check muster.yaml and roster.yaml, and report each mistake and each secret that is missing."""
    from bot.config.loader import check
    from bot.setup import doctor, preflight
    from bot.setup.doctor.installation import subscriptions
    from core.validation_errors import lines_of

    found = check(Paths.of(os.environ))
    warnings = [
        *found.warnings,
        *preflight.missing_secrets(found, os.environ),
        *(
            f"muster.yaml: {each.name}: {each.found}. {each.costs} {each.way}"
            for each in (*subscriptions(found, os.environ), *doctor.bounds(found))
        ),
    ]
    if as_json:
        import json

        click.echo(json.dumps(_check_json(found, warnings), indent=2))
        return 1 if found.problems else 0
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    for line in lines_of(found.problems):
        click.echo(line, err=True)
    for problem in found.roster.not_in_effect if found.roster is not None else ():
        click.echo(f"note: {problem}", err=True)
    if found.problems:
        return 1
    click.echo("Both files are valid.")
    if _runs_with_older(Paths.of(os.environ)):
        from bot.app.config_reload import LIVE

        click.echo(
            f"Muster was started before muster.yaml was changed last. `muster roster apply` has it take up what it "
            f"says of {', '.join(LIVE)}, if that was not done since. All else holds once it is started again: `muster "
            "down` and `muster up --detach`; agents go on meanwhile."
        )
    return 0


def _check_json(found: Check, warnings: Sequence[str]) -> dict[str, object]:
    """Return the findings of `config check` for programs."""
    import dataclasses

    return {
        "valid": not found.problems,
        "problems": [dataclasses.asdict(each) for each in found.problems],
        "warnings": list(warnings),
        "notes": [str(each) for each in (found.roster.not_in_effect if found.roster is not None else ())],
        "restart_needed": not found.problems and _runs_with_older(Paths.of(os.environ)),
    }


def _runs_with_older(paths: Paths) -> bool:
    """Whether Muster runs, and began before its settings were written last: its lock is written when it starts."""
    from bot.config.instance_lock import holder

    try:
        return holder(paths.lock) is not None and paths.lock.stat().st_mtime < paths.muster_yaml.stat().st_mtime
    except OSError:
        return False


@click.command()
@click.argument("file", type=click.Choice(["muster", "roster"]), default="muster", required=False)
@click.option("--write", is_flag=True, help="Write both schemas beside their files.")
def config_schema(file: str, write: bool) -> int:
    """Print the JSON schema of muster.yaml or roster.yaml, for editors.

    The schema of muster.yaml includes that of roster.yaml under $defs.
    """
    import json

    from bot.config.loader import roster_schema, schema, write_schemas

    if write:
        for path, line in write_schemas(Paths.of(os.environ)).items():
            click.echo(f"Wrote {path}. An editor finds it by this line at the top of the file: {line}")
        return 0
    click.echo(
        json.dumps(schema(Paths.of(os.environ)) if file == "muster" else roster_schema(Paths.of(os.environ)), indent=2)
    )
    return 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
def doctor(as_json: bool) -> int:
    """Check this machine, and list what is missing and what that costs."""
    import json

    from bot.setup.doctor import examine, exit_status, text

    found = examine(Paths.of(os.environ), os.environ)
    click.echo(json.dumps([each.to_json() for each in found], indent=2) if as_json else text(found))
    return exit_status(found)


@click.command()
@click.option("--agents", "agents_too", is_flag=True, help="Also give a unit to each agent without a hosting setting.")
@click.option("--uninstall", "away", is_flag=True, help="Remove the units. Running processes continue.")
@click.option("--dry-run", "--print", "dry_run", is_flag=True, help="Change nothing; print the units and the commands.")
def install(agents_too: bool, away: bool, dry_run: bool) -> int:
    """Install systemd user units, so that Muster comes back when the machine starts.

    Agents with systemd hosting get their own units, and lose them when they leave the roster. The orchestrator starts
    the others.
    """
    from bot.setup.install import install as put_in
    from bot.setup.install import uninstall as take_out

    if away and agents_too:
        raise click.UsageError("--uninstall takes all units away; leave --agents out.")
    paths = Paths.of(os.environ)
    if away:
        report = take_out(paths, dry_run=dry_run)
    else:
        report = put_in(paths, os.environ, agents_too=agents_too, dry_run=dry_run)
    for line in report.done:
        click.echo(line)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    return 0


@click.command()
@click.argument("runtime", metavar="RUNTIME")
def login(runtime: str) -> int:
    """Log in to a runtime's provider with the runtime's own program, for agents without an API key."""
    from bot.setup.runtime_login import login as enter

    return 1 if enter(Paths.of(os.environ), runtime, click.echo) else 0


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--from-password", metavar="REFERENCE", help="A reference to the password for FROM: env:NAME or file:PATH."
)
@click.option("--to-password", metavar="REFERENCE", help="A reference to the password for TO.")
@click.option("--json", "as_json", is_flag=True, help="Print what was copied for programs.")
def register_copy(source: str, target: str, from_password: str | None, to_password: str | None, as_json: bool) -> int:
    """Copy the register to another, empty database, completely or not at all.

    FROM and TO are written as in muster.yaml: sqlite:/// and an absolute path, or postgresql://USER@HOST/DATABASE.
    Muster
    must not run on either.
    """
    import asyncio
    import json

    from bot.config.database import copy

    def progress(table: str, rows: int, total: int) -> None:
        shown = f"{table}: {rows} of {total}"
        if sys.stderr.isatty():
            click.echo(f"\r{shown}\033[K", nl=rows == total, err=True)
        elif rows == total:
            click.echo(shown, err=True)

    copied = asyncio.run(
        copy(Paths.of(os.environ), os.environ, (source, target), (from_password, to_password), progress)
    )
    rows = sum(table.rows for table in copied)
    if as_json:
        tables = [{"name": table.name, "rows": table.rows, "checksum": table.checksum} for table in copied]
        click.echo(json.dumps({"from": source, "to": target, "rows": rows, "tables": tables}, indent=2))
        return 0
    click.echo(
        f"Copied {rows} rows of {len(copied)} tables; their numbers and checksums agree. Write it into muster.yaml as "
        f"register.url: {target}"
    )
    return 0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a shell script that completes commands and agent names.

    \b
    bash: muster completion bash > ~/.local/share/bash-completion/completions/muster
    zsh:  muster completion zsh > a file _muster in a folder of $fpath
    fish: muster completion fish > ~/.config/fish/completions/muster.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    root = click.get_current_context().find_root()
    if made is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    sys.stdout.write(made(root.command, {}, "muster", "_MUSTER_COMPLETE").source())
    return 0
