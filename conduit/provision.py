"""`muster-homeserver`, or `python -m conduit.provision`: from a homeserver that runs to a fleet room with a bot."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bot.config.loader import Paths
from conduit.account_registration import Admission
from conduit.errors import ProvisionError
from conduit.homeserver_api import Homeserver, address, is_open_to_listeners
from conduit.setup_context import SetupOptions
from conduit.setup_record import RecordFolder
from conduit.setup_sequence import Provisioning, SetupOutcome
from core.errors import MusterError
from core.secret_references import Reference

#: What the part of a user's id before the colon is made of (Matrix spec v1.11, "User identifiers").
_NAME = re.compile(r"[a-z0-9._=/+-]{1,200}")
_CONNECTOR = re.compile(r"[a-z][a-z0-9_-]{0,31}")

_DESCRIPTION = """\
Set up a fleet on a homeserver: register the operator and then the bot, make a private room with both, and write the
connector into muster.yaml. Run a second time it repairs what is missing. Secrets are named by reference: env:NAME,
file:PATH or keyring:NAME.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is there, 1 when it could not be done, 2 when the words are wrong."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough (`... | head`). Python flushes once more at its end.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        return _main(given)
    except MusterError as error:
        if given.json:
            print(json.dumps({"ok": False, "error": str(error)}))
        else:
            print(str(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130


def _main(given: argparse.Namespace) -> int:
    url = address(given.homeserver)
    paths = Paths.of(os.environ)
    wanted = SetupOptions(
        operator=_name("--operator", given.operator),
        bot=_name("--bot", given.bot),
        room_name=given.room,
        encrypted=given.encrypted,
        connector=given.connector,
        admission=_admission(given),
        operator_password=_secret("--operator-password", given.operator_password),
        bot_password=_secret("--bot-password", given.bot_password),
    )
    if wanted.operator == wanted.bot:
        raise ProvisionError("--operator and --bot are the same. The bot needs a user of its own.")
    if not _CONNECTOR.fullmatch(wanted.connector):
        raise ProvisionError("--connector: expected a lower-case letter, then letters, digits, - and _; at most 32.")
    if not wanted.room_name.isprintable() or not wanted.room_name.strip() or len(wanted.room_name) > 200:
        raise ProvisionError("--room: expected a name of up to 200 characters, in one line.")

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if is_open_to_listeners(url):
        say(f"{url} is not this machine and not encrypted: passwords can be read on the way. Better is https://.")
    if not given.yes and not _agreed(url, wanted, paths):
        return 1
    paths.prepare()
    kept = RecordFolder(paths, wanted.connector)
    with kept.held():
        outcome = asyncio.run(_provisioned(wanted, url, kept, paths, say))
    if given.json:
        print(json.dumps(_as_json(outcome, kept, paths)))
    else:
        print(next_steps(outcome, wanted, kept, paths))
    return 0


async def _provisioned(wanted: SetupOptions, url: str, kept: RecordFolder, paths: Paths, say: object) -> SetupOutcome:
    assert callable(say)
    async with Homeserver(url, say=say) as homeserver:
        return await Provisioning(wanted=wanted, homeserver=homeserver, kept=kept, paths=paths, say=say).run()


def next_steps(outcome: SetupOutcome, wanted: SetupOptions, kept: RecordFolder, paths: Paths) -> str:
    """Return what to do now, for the person."""
    if outcome.changed:
        lines = ["", "Done:", *(f"  {each}" for each in outcome.changed), ""]
    else:
        lines = [f"All is there: {outcome.operator} and {outcome.bot} in {outcome.room}.", ""]
    password = (
        f"the one in {kept.operator_password_file} (keep it elsewhere, change it, then delete the file)"
        if kept.password("operator") is not None
        else "yours"
    )
    lines += [
        "In Element:",
        f'  1. Sign in; edit the homeserver, "Other homeserver": {outcome.homeserver}',
        f"  2. Username: {wanted.operator}    Password: {password}",
        f'  3. Open the room "{wanted.room_name}" ({outcome.room}).',
        "  4. Here: muster up (if it runs already: muster down, then muster up)",
        "  5. In the room: !help, then !launch NAME.",
        "",
        f"The bot's access token is in {kept.token_file}; {paths.muster_yaml} only refers to it.",
    ]
    return "\n".join(lines)


def _as_json(outcome: SetupOutcome, kept: RecordFolder, paths: Paths) -> dict[str, object]:
    return {
        "ok": True,
        "homeserver": outcome.homeserver,
        "operator": outcome.operator,
        "bot": outcome.bot,
        "room": outcome.room,
        "changed": list(outcome.changed),
        "access_token": f"file:{kept.token_file}",
        "operator_password": None if kept.password("operator") is None else f"file:{kept.operator_password_file}",
        "muster_yaml": str(paths.muster_yaml),
    }


def _agreed(url: str, wanted: SetupOptions, paths: Paths) -> bool:
    if not sys.stdin.isatty():
        raise ProvisionError("Nobody is at the terminal to be asked. Give --yes to go on without.")
    print(
        f"On {url}: the users {wanted.operator} (you) and {wanted.bot} (the bot), and the room {wanted.room_name!r} "
        f"with both. Then connectors.{wanted.connector} in {paths.muster_yaml}.",
        file=sys.stderr,
    )
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _name(option: str, text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ProvisionError(
            f"{option}: expected a name as before the colon of a Matrix id: lower-case letters, digits and . _ = / + "
            "-, like ana."
        )
    return text


def _admission(given: argparse.Namespace) -> Admission | None:
    token = _secret("--registration-token", given.registration_token)
    if token is not None:
        return Admission("registration token", token)
    shared = _secret("--shared-secret", given.shared_secret)
    return None if shared is None else Admission("shared secret", shared)


def _secret(option: str, reference: str | None) -> str | None:
    if reference is None:
        return None
    try:
        return Reference.parse(reference, folder=Path.cwd()).resolve()
    except (ValueError, MusterError) as error:
        raise ProvisionError(f"{option}: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="muster-homeserver", description=_DESCRIPTION)
    add = parser.add_argument
    add("--homeserver", required=True, metavar="URL", help="its address, like http://127.0.0.1:6167")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--registration-token", metavar="REF", help="where registration_token of conduit.toml is")
    way.add_argument("--shared-secret", metavar="REF", help="where Synapse's registration_shared_secret is")
    add("--operator", required=True, metavar="NAME", help="you, like ana")
    add("--bot", default="muster", metavar="NAME", help="the bot (default: muster)")
    add("--room", default="Fleet", metavar="NAME", help="how the room is called (default: Fleet)")
    add("--encrypted", action="store_true", help="encrypt the room from end to end")
    add("--connector", default="matrix", metavar="NAME", help="its name in muster.yaml (default: matrix)")
    add("--operator-password", metavar="REF", help="of an operator that there is, or is to have it")
    add("--bot-password", metavar="REF", help="of a bot that there is, or is to have it")
    add("--yes", action="store_true", help="do not ask")
    add("--json", action="store_true", help="say the outcome as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
