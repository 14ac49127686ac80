"""A mistake in muster.yaml costs a minute: the file, the line, the key, what was found, what is allowed."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.app import connectors
from bot.config import loader
from bot.config.paths import Paths
from bot.messaging.composer import MessagePlace
from bot.text.errors import ConfigError
from core import yaml_loader
from fleet import presets
from fleet.roster.schema import PRESETS


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    return Paths(config=tmp_path, state=tmp_path / "state", sockets=tmp_path / "run")


def refused(paths: Paths, text: str | bytes) -> list[str]:
    """What is said of a muster.yaml, in lines; each that names a line has a column, which is left out here."""
    paths.muster_yaml.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        loader.load(paths)
    return [without_column(line) for line in str(caught.value).splitlines()]


def without_column(line: str) -> str:
    assert not re.match(r"muster\.yaml:[0-9]+: ", line), line
    return re.sub(r"^(muster\.yaml:[0-9]+):[1-9][0-9]*: ", r"\1: ", line)


MATRIX = """\
connectors:
  matrix:
    homeserver: https://matrix.example.org
    user: "@muster:example.org"
    access_token: env:MATRIX_TOKEN
"""
SECOND = """\
  second:
    kind: matrix
    homeserver: https://matrix.example.org
    user: "@other:example.org"
    access_token: env:SECOND
"""
NAMED = MATRIX + "    rooms: ['!abc:example.org']\n"
DISCORD = """\
connectors:
  discord:
    token: env:DISCORD_TOKEN
    guild: 123456789012345678
    channel: "234567890123456789"
"""


def test_one_user_in_two_rooms_and_two_rooms_that_mirror_each_other_are_two_connectors(paths: Paths) -> None:
    own = '    rooms: ["!{}:example.org"]\n    fleet_room: "!{}:example.org"\n    bridge: true\n'
    second = SECOND.replace("@other", "@muster") + own.format("def", "def")
    paths.muster_yaml.write_text(MATRIX + own.format("abc", "abc") + second)
    settings = loader.load(paths)
    assert [each.bridge for each in settings.connectors] == [True, True]
    assert connectors.bridge(settings).rooms == (
        MessagePlace("matrix", conversation="!abc:example.org"),
        MessagePlace("second", conversation="!def:example.org"),
    )
    # With one of them mirroring, the fleet's own room need not say so; a room that is named is the fleet's.
    paths.muster_yaml.write_text(
        MATRIX.replace("  matrix:", "  terminal: {bridge: true}\n  matrix:") + '    fleet_room: "!abc:example.org"\n'
    )
    assert [room.connector for room in connectors.bridge(loader.load(paths)).rooms] == ["matrix", "terminal"]
    assert connectors.main_room(loader.load(paths))(None) == ("matrix", "!abc:example.org")


def test_what_leaves_an_encrypted_room_over_a_bridge_is_warned_of(paths: Paths) -> None:
    room = '    fleet_room: "!abc:example.org"\n'
    plain = SECOND + '    fleet_room: "!def:example.org"\n    bridge: true\n'
    paths.muster_yaml.write_text(MATRIX + room + "    encryption: required\n" + plain)
    (warning,) = [each for each in loader.check(paths).warnings if "encrypted" in each]
    assert warning.startswith("what is said in the encrypted room of matrix is mirrored by second, where rooms may not")
    paths.muster_yaml.write_text(MATRIX + room + plain)
    assert not [each for each in loader.check(paths).warnings if "encrypted" in each]


def test_no_file_means_one_terminal_and_nobody_else(paths: Paths) -> None:
    settings = loader.load(paths)
    assert [(each.name, each.kind) for each in settings.connectors] == [("terminal", "terminal")]
    assert settings.operators == {}
    assert settings.command_prefix == "!"
    assert settings.approvals.timeout == 900
    assert settings.delivery.give_up_after == 86_400
    assert settings.register_url == f"sqlite:///{paths.state}/register.db"
    assert settings.timezone.key == "UTC"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "connectors:\n", "agents:\n  # runtime: claude\n"])
def test_an_empty_file_means_the_same(paths: Paths, text: str) -> None:
    paths.muster_yaml.write_text(text)
    settings = loader.load(paths)
    assert [each.name for each in settings.connectors] == ["terminal"]


def test_a_whole_configuration(paths: Paths) -> None:
    paths.muster_yaml.write_text(
        MATRIX
        + """\
    fleet_room: "!abc:example.org"
  work:
    kind: matrix
    homeserver: http://localhost:8008/
    user: "@bot:work"
    password: file:password
  terminal:
operators:
  matrix:@ana:example.org: admin
  "work:@bo:work": viewer
command_prefix: "."
accounts:
  main:
    provider: anthropic
    credential: keyring:anthropic
    base_url: https://models.example.org/
agents: {runtime: claude, sandbox: none, heartbeat: 5}
approvals: {timeout: 1h30m}
delivery: {give_up_after: 7d}
redaction:
  patterns: ['CORP-[0-9]{6}']
register: {url: sqlite:////var/lib/muster/register.db}
timezone: Europe/Vienna
"""
    )
    settings = loader.load(paths)

    matrix, work, terminal = settings.connectors
    assert (matrix.kind, matrix.fleet_room) == ("matrix", "!abc:example.org")
    assert (work.name, work.kind) == ("work", "matrix")
    written: Any = work.settings
    assert written.homeserver == "http://localhost:8008"
    assert written.password.name == str(paths.config / "password")
    assert terminal.kind == "terminal"
    assert settings.operators == {"matrix:@ana:example.org": "admin", "work:@bo:work": "viewer"}
    assert settings.accounts["main"].base_url == "https://models.example.org"
    assert str(settings.accounts["main"].credential) == "keyring:anthropic"
    assert (settings.agents.runtime, settings.agents.sandbox, settings.agents.heartbeat) == ("claude", "none", 5)
    assert settings.approvals.timeout == 5400
    assert settings.delivery.give_up_after == 7 * 86_400
    assert settings.redaction.patterns == ("CORP-[0-9]{6}",)
    assert settings.register_url == "sqlite:////var/lib/muster/register.db"
    assert settings.timezone.key == "Europe/Vienna"
    assert settings.warnings == ()


def test_power_levels_give_permission_to_whoever_has_them(paths: Paths) -> None:
    levels = "    power_levels: {operator: 50, admin: 100}\n    rooms: ['#fleet:example.org']\n"
    paths.muster_yaml.write_text(f"{MATRIX}{levels}operators:\n  'matrix:@ana:example.org': viewer\n")
    assert loader.load(paths).operators == {
        "matrix:level:50": "operator",
        "matrix:level:100": "admin",
        "matrix:@ana:example.org": "viewer",
    }
    same = levels.replace("50", "100")
    paths.muster_yaml.write_text(f"{MATRIX}{same}")
    assert loader.load(paths).operators == {"matrix:level:100": "admin"}


def test_an_agents_room_is_one_that_is_heard(paths: Paths) -> None:
    paths.muster_yaml.write_text(NAMED + "    fleet_room: '!main:example.org'\n")
    rooms = ("!abc:example.org", "!main:example.org", "!other:example.org")
    found = [loader.unusable_room(loader.load(paths), f"matrix:{room}") for room in rooms]
    assert found[:2] == [None, None]
    assert found[2] == (
        "connectors.matrix does not hear what is said there, but in !abc:example.org. Take one of its rooms."
    )
    paths.muster_yaml.write_text(DISCORD)
    assert loader.unusable_room(loader.load(paths), "discord:234567890123456789") is None
    assert loader.unusable_room(loader.load(paths), "discord:345678901234567890") is not None
    paths.muster_yaml.write_text(MATRIX)
    assert loader.unusable_room(loader.load(paths), "matrix:!other:example.org") is None
    assert "one of its addresses" in str(loader.unusable_room(loader.load(paths), "matrix:other"))


#: What is written, the place that is named (line and key), and words of what is said.
MISTAKES = [
    # the file as a whole
    ("- a\n- b\n", "muster.yaml: ", "found a list; expected keys with values (connectors, operators"),
    ("just words\n", "muster.yaml: ", "found 'just words'; expected keys with values"),
    ("12\n", "muster.yaml: ", "found the number 12"),
    (b"timezone: Z\xfcrich\n", "muster.yaml:1: ", "not text in UTF-8 (byte 0xfc)"),
    (b"\xff\xfet\x00", "muster.yaml:1: ", "not text in UTF-8"),
    ("timezone: UTC\n\x00\n", "muster.yaml:2: ", "control character U+0000"),
    ("timezone: \x1b[31mUTC\n", "muster.yaml:1: ", "control character U+001B"),
    ("timezone: UTC\n---\ntimezone: UTC\n", "muster.yaml:2: ", "a second document"),
    # YAML itself
    ("approvals:\n\ttimeout: 5m\n", "muster.yaml:2: ", "indented with a tab"),
    ("approvals:\n  timeout: 5m\n\tx: 1\n", "muster.yaml:3: ", "indented with a tab"),
    ("timezone: 'UTC\n", "muster.yaml:", "a quotation mark opens here"),
    ("operators: [a\n", "muster.yaml:2: ", "not YAML"),
    ("timezone: UTC: x\n", "muster.yaml:1: ", "a key is not expected here: 'timezone: UTC: x'"),
    ("operators:\n  @ana: admin\n", "muster.yaml:2: ", "cannot begin like this: '@ana: admin'. Put it between quotes"),
    ("timezone: *zone\n", "muster.yaml:1: ", "*zone refers to &zone, which is not defined above"),
    ("timezone: &z [*z]\n", "muster.yaml:1: ", "refers to what it stands in itself"),
    ("timezone: !!python/object:os.system x\n", "muster.yaml:1: ", "Tags are not taken here"),
    ("agents: !include x\n", "muster.yaml:1: ", "Tags are not taken here"),
    ("? [a, b]\n: c\n", "muster.yaml:1: ", "found a list in the place of a key"),
    ("schedules:\n  quiet: {from: 22, to: 07:00}\n", "muster.yaml:2:", "expected a time of day, like 22:00"),
    ("timezone: UTC\ntimezone: UTC\n", "muster.yaml:2: timezone: ", "twice; the first is in line 1"),
    (
        "approvals:\n  timeout: 5m\n  timeout: 6m\n",
        "muster.yaml:3: approvals.timeout: ",
        "twice; the first is in line 2",
    ),
    ("x: " + "[" * 60, "muster.yaml:1: ", "nested deeper than"),
    # unknown keys
    ("timzone: UTC\n", "muster.yaml:1: timzone: ", "not known here. Did you mean 'timezone'? Known are connectors"),
    ("\napprovals:\n  timout: 5m\n", "muster.yaml:3: approvals.timout: ", "Did you mean 'timeout'?"),
    ("limits: 5\n", "muster.yaml:1: limits: ", "not known here. Known are"),
    (
        "accounts:\n  a:\n    provider: openai\n    api_key: sk-hunter2\n",
        "muster.yaml:4: accounts.a.api_key: ",
        "not known here. Known are provider, credential, base_url",
    ),
    # wrong values
    ("connectors: [matrix]\n", "muster.yaml:1: connectors: ", "found a list; expected keys with values"),
    ("connectors:\n  matrix: yes\n", "muster.yaml:2: connectors.matrix: ", "found 'yes'; expected keys with values"),
    ("operators: ana\n", "muster.yaml:1: operators: ", "found 'ana'; expected keys with values"),
    ("command_prefix: 1\n", "muster.yaml:1: command_prefix: ", "found the number 1; expected text. Put it between"),
    ("command_prefix: run\n", "muster.yaml:1: command_prefix: ", "one to three signs"),
    ("command_prefix: /\n", "muster.yaml:1: command_prefix: ", "chat clients reserve"),
    ("timezone: Mars/Olympus\n", "muster.yaml:1: timezone: ", "not a time zone: 'Mars/Olympus'"),
    ("timezone: ../../etc/passwd\n", "muster.yaml:1: timezone: ", "not a time zone"),
    ("timezone: [UTC]\n", "muster.yaml:1: timezone: ", "found a list; expected text"),
    (
        "approvals: {timeout: soon}\n",
        "muster.yaml:1: approvals.timeout: ",
        "not a length of time: 'soon'. Write it like",
    ),
    ("approvals:\n  timeout: true\n", "muster.yaml:2: approvals.timeout: ", "expected a length of time"),
    ("approvals:\n  timeout: 0\n", "muster.yaml:2: approvals.timeout: ", "more than nothing"),
    ("approvals:\n  timeout: -5m\n", "muster.yaml:2: approvals.timeout: ", "not a length of time"),
    ("approvals: 15m\n", "muster.yaml:1: approvals: ", "found '15m'; expected keys with values"),
    ("delivery:\n  give_up_after: [1]\n", "muster.yaml:2: delivery.give_up_after: ", "expected a length of time"),
    ("redaction:\n  patterns: x\n", "muster.yaml:2: redaction.patterns: ", "expected a list"),
    ("redaction:\n  patterns:\n    - ok\n    - '('\n", "muster.yaml:4: redaction.patterns[1]: ", "not a regular expr"),
    ("redaction:\n  patterns: ['.*']\n", "muster.yaml:2: redaction.patterns[0]: ", "fits the empty text"),
    ("agents:\n  runtime: clause\n", "muster.yaml:2: agents.runtime: ", "Did you mean 'claude'?"),
    (
        "agents:\n  sandbox: docker\n",
        "muster.yaml:2: agents.sandbox: ",
        "No sandbox is called 'docker'; there are bubblewrap, none.",
    ),
    ("agents:\n  workspaces: work\n", "muster.yaml:2: agents.workspaces: ", "expected an absolute path"),
    ("register:\n  url: muster.db\n", "muster.yaml:2: register.url: ", "sqlite:/// and the absolute path"),
    ("register:\n  url: sqlite:///muster.db\n", "muster.yaml:2: register.url: ", "no absolute path of a file"),
    (
        "register:\n  url: postgresql://m:hunter2@h/m\n",
        "muster.yaml:2: register.url: ",
        "This file must not contain secrets: take it out, and refer to it beside the address",
    ),
    (
        "register:\n  url: postgresql://m@h/m\n  password: hunter2\n",
        "muster.yaml:3: register.password: ",
        "this file must not contain secrets. Write env:NAME",
    ),
    ("register:\n  password: env:X\n", "muster.yaml:2: register.password: ", "an SQLite file has no password"),
    (
        "register:\n  url: postgresql://h/m?sslmode=no\n",
        "muster.yaml:2: register.url: ",
        "allowed are disable, require, verify-full",
    ),
    ("accounts:\n  a:\n    provider: antropic\n", "muster.yaml:3: accounts.a.provider: ", "Did you mean 'anthropic'?"),
    ("accounts:\n  a: {}\n", "muster.yaml:2: accounts.a.provider: ", "is missing"),
    ("accounts:\n  A b: {provider: openai}\n", "muster.yaml:2: accounts.A b: ", "an account's name is"),
    (
        "accounts:\n  a:\n    provider: openai\n    credential: sk-hunter2\n",
        "muster.yaml:4: accounts.a.credential: ",
        "this file must not contain secrets. Write env:NAME",
    ),
    (
        "accounts:\n  a:\n    provider: openai\n    credential:\n      key: hunter2\n",
        "muster.yaml:4: accounts.a.credential: ",
        "expected a reference to a secret",
    ),
    (
        "accounts:\n  a:\n    provider: openai\n    base_url: https://me:hunter2@h/\n",
        "muster.yaml:4: accounts.a.base_url: ",
        "not a plain URL: holds a user",
    ),
    (
        "accounts:\n  a:\n    provider: openai\n    base_url: models\n",
        "muster.yaml:4: accounts.a.base_url: ",
        "'models'",
    ),
    # connectors
    ("connectors:\n  matrx:\n", "muster.yaml:2: connectors.matrx: ", "Did you mean 'matrix'?"),
    (
        "connectors:\n  home:\n    kind: irc\n",
        "muster.yaml:3: connectors.home.kind: ",
        "no kind of connector is called 'irc'",
    ),
    ("connectors:\n  home:\n    kind: 3\n", "muster.yaml:3: connectors.home.kind: ", "expected text"),
    ("connectors:\n  My Room:\n    kind: terminal\n", "muster.yaml:2: connectors.My Room: ", "a connector's name is"),
    ("connectors:\n  terminal:\n    colour: red\n", "muster.yaml:3: connectors.terminal.colour: ", "is not known here"),
    (
        "connectors:\n  terminal:\n    fleet_room: [x]\n",
        "muster.yaml:3: connectors.terminal.fleet_room: ",
        "expected text",
    ),
    (
        MATRIX.replace("https://matrix.example.org", "localhost"),
        "muster.yaml:3: connectors.matrix.homeserver: ",
        "not a URL: 'localhost'. Write http:// or https:// first",
    ),
    (
        MATRIX.replace('"@muster:example.org"', "muster"),
        "muster.yaml:4: connectors.matrix.user: ",
        "not a Matrix user: 'muster'",
    ),
    (
        MATRIX.replace("env:MATRIX_TOKEN", "syt_hunter2"),
        "muster.yaml:5: connectors.matrix.access_token: ",
        "this file must not contain secrets",
    ),
    (MATRIX.replace("    user:", "    usr:"), "muster.yaml:4: connectors.matrix.usr: ", "Did you mean 'user'?"),
    ("connectors:\n  matrix:\n", "muster.yaml:2: connectors.matrix.homeserver: ", "is missing"),
    # people
    ("people: {ana: [ana]}\n", "muster.yaml:1: people.ana: ", "'ana' is no identity: a connector's name, a colon"),
    (
        "people: {ana: ['terminal:ana'], bea: ['terminal:bea', 'terminal:ana']}\n",
        "muster.yaml:1: people.bea: ",
        "terminal:ana is ana already; an identity is one person's.",
    ),
    # several connectors
    (
        MATRIX + "    bridge: true\n  terminal:\n",
        "muster.yaml:6: connectors.matrix.bridge: ",
        "there is no room to mirror: its main room is not set. Set fleet_room",
    ),
    (
        MATRIX + '    fleet_room: "!abc:example.org"\n    bridge: true\n',
        "muster.yaml:7: connectors.matrix.bridge: ",
        "there is nothing to mirror: its main room is the fleet's own. Write bridge: true in the block of another",
    ),
    (MATRIX + "    bridge: sometimes\n", "muster.yaml:6: connectors.matrix.bridge: ", "expected true or false"),
    (
        MATRIX + SECOND.replace("env:SECOND", "env:MATRIX_TOKEN"),
        "muster.yaml:10: connectors.second.access_token: ",
        "matrix logs in with env:MATRIX_TOKEN already: every message would be read, and every command run, twice.",
    ),
    (
        MATRIX + SECOND.replace("@other", "@muster"),
        "muster.yaml:6: connectors.second: ",
        "it is the same user as matrix, and both would read every room that it is in.",
    ),
    (
        MATRIX
        + '    fleet_room: "!abc:example.org"\n'
        + SECOND
        + '    rooms: ["!def:example.org", "!abc:example.org"]\n',
        "muster.yaml:7: connectors.second: ",
        "matrix is in !abc:example.org already: every command there would run twice.",
    ),
    (
        DISCORD + "  dis2: {kind: discord, token: env:T2, guild: 123456789012345678, channel: 234567890123456789}\n",
        "muster.yaml:6: connectors.dis2: ",
        "discord is in 234567890123456789 already",
    ),
    (MATRIX + "    fleet_room: fleet\n", "muster.yaml:6: connectors.matrix.fleet_room: ", "one of its addresses"),
    (MATRIX + "    rooms: ['#fleet']\n", "muster.yaml:6: connectors.matrix.rooms", "one of its addresses"),
    (MATRIX + "schedules: {room: 'matrix:fleet'}\n", "muster.yaml:6: schedules.room: ", "one of its addresses"),
    (
        MATRIX + "    power_levels: {operator: 50}\n",
        "muster.yaml:6: connectors.matrix.power_levels: ",
        "Set fleet_room, or rooms",
    ),
    (
        NAMED + "    power_levels: {operator: 0}\n",
        "muster.yaml:7: connectors.matrix.power_levels.operator: ",
        "1",
    ),
    (NAMED + "    power_levels: {}\n", "muster.yaml:7: connectors.matrix.power_levels: ", "no level is named"),
    (
        NAMED + "    power_levels: {admin: 50, operator: 100}\n",
        "muster.yaml:7: connectors.matrix.power_levels: ",
        "at least the level",
    ),
    (
        MATRIX.replace("  matrix:", "  terminal:\n    kind: matrix"),
        "muster.yaml:2: connectors.terminal: ",
        "the user that runs Muster would be admin",
    ),
    (
        MATRIX.replace("  matrix:", "  agent:\n    kind: matrix"),
        "muster.yaml:2: connectors.agent: ",
        "as Muster calls its agents",
    ),
    # operators
    ("operators:\n  ana: admin\n", "muster.yaml:2: operators.ana: ", "a connector's name, a colon and a user"),
    (
        "operators:\n  terminal:ana: boss\n",
        "muster.yaml:2: operators.terminal:ana: ",
        "allowed are viewer, operator, adm",
    ),
    (
        MATRIX + "operators:\n  matrx:@ana:example.org: admin\n",
        "muster.yaml:7: operators.matrx:@ana:example.org: ",
        "no connector is called 'matrx'. Did you mean 'matrix'? Configured are matrix",
    ),
    (MATRIX + "operators:\n  matrix:ana: admin\n", "muster.yaml:7: operators.matrix:ana: ", "not a Matrix user: 'ana'"),
    (
        DISCORD + "operators:\n  discord:ana: admin\n",
        "muster.yaml:7: operators.discord:ana: ",
        "not a Discord user: 'ana'",
    ),
    (
        DISCORD + "operators:\n  discord:role:crew: admin\n",
        "muster.yaml:7: operators.discord:role:crew: ",
        "not a Discord role: 'role:crew'. Write its id, like discord:role:123456789012345678",
    ),
    (
        DISCORD + "operators:\n  discord:rolle:345678901234567890: admin\n",
        "muster.yaml:7: operators.discord:rolle:345678901234567890: ",
        "not a Discord role",
    ),
    (
        DISCORD + "operators:\n  discord:role:123456789012345678: viewer\n",
        "muster.yaml:7: operators.discord:role:123456789012345678: ",
        "the role @everyone: everybody who joins",
    ),
    (DISCORD.replace("234567890123456789", "fleet"), "muster.yaml:5: connectors.discord.channel: ", "developer mode"),
]


def test_a_register_on_a_server(paths: Paths) -> None:
    paths.muster_yaml.write_text("register: {url: 'postgresql://muster@db/fleet', password: 'file:db-password'}\n")
    settings = loader.load(paths)
    assert settings.register_url == "postgresql://muster@db/fleet"
    assert str(settings.register_password) == f"file:{paths.config}/db-password"


@pytest.mark.parametrize(("text", "place", "said"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_its_place(paths: Paths, text: str | bytes, place: str, said: str) -> None:
    lines = refused(paths, text)
    assert any(line.startswith(place) and said in line for line in lines), lines
    assert all("hunter2" not in line for line in lines)
    assert all("pydantic" not in line and "validation error" not in line for line in lines)


def test_all_mistakes_are_listed_in_the_order_of_the_file(paths: Paths) -> None:
    lines = refused(
        paths,
        "connectors:\n  matrix:\n    homeserver: localhost\n  irc:\n"
        "operators:\n  discord:ana: admin\ntimezone: Nowhere\n",
    )
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)
    keys = [line.split(": ")[1] for line in lines]
    assert {"connectors.matrix.homeserver", "connectors.irc", "operators.discord:ana", "timezone"} <= set(keys)


def test_a_mistake_is_said_once(paths: Paths) -> None:
    lines = refused(paths, "timezone: Nowhere\n")
    assert len(lines) == 1


def test_words_that_other_yaml_takes_for_something_else(paths: Paths) -> None:
    paths.muster_yaml.write_text(
        "accounts:\n  no: {provider: openai, credential: env:ON}\n  on: {provider: anthropic}\n"
    )
    assert list(loader.load(paths).accounts) == ["no", "on"]


def test_aliases_and_merges_work_within_bounds(paths: Paths) -> None:
    paths.muster_yaml.write_text(
        "accounts:\n  a: &a {provider: openai, credential: env:A}\n  b:\n    <<: *a\n    credential: env:B\n"
    )
    accounts = loader.load(paths).accounts
    assert accounts["b"].provider == "openai"
    assert str(accounts["b"].credential) == "env:B"


def test_a_bomb_of_aliases_is_refused(paths: Paths) -> None:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (line,) = refused(paths, "\n".join(bomb))
    assert "aliases expand to more than" in line


@pytest.mark.parametrize("unit", ["[", "{a: ", "- ", "? ", "a:\n "])
def test_a_file_of_brackets_is_refused_at_once(paths: Paths, unit: str) -> None:
    refused(paths, unit * 100_000)


def test_a_huge_file_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_loader, "LARGEST_FILE", 1024 * 1024)
    (line,) = refused(paths, "#" * (1024 * 1024 + 1))
    assert "larger than 1 MiB" in line


def test_very_many_mistakes_are_counted(paths: Paths) -> None:
    lines = refused(paths, "".join(f"key{n}: 1\n" for n in range(500)))
    assert len(lines) == 101
    assert lines[-1] == "... and 400 more problems."


def test_a_folder_or_a_socket_in_place_of_the_file(paths: Paths) -> None:
    paths.muster_yaml.mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        loader.load(paths)
    paths.muster_yaml.rmdir()
    os.mkfifo(paths.muster_yaml)
    with pytest.raises(ConfigError, match="is not a regular file"):
        loader.load(paths)


def test_an_unreadable_file(paths: Paths) -> None:
    paths.muster_yaml.touch(mode=0)
    person = os.geteuid()
    if person == 0:
        os.seteuid(65534)  # root reads everything
    try:
        with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            loader.load(paths)
    finally:
        os.seteuid(person)


def test_a_file_that_others_can_change_is_warned_of(paths: Paths) -> None:
    paths.muster_yaml.write_text("timezone: UTC\n")
    paths.muster_yaml.chmod(stat.S_IMODE(paths.muster_yaml.stat().st_mode) | 0o022)
    (warning,) = loader.load(paths).warnings
    assert "could change what agents may do" in warning
    assert "chmod go-w" in warning


def test_a_connector_whose_package_is_broken_stops_nothing_else(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site" / "pigeon-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[muster.connectors]\npigeon = no_such_pigeon:Pigeon\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths.muster_yaml.write_text(
        "connectors:\n  pigeon:\n    loft: east\n  terminal:\noperators:\n  pigeon:ana: admin\n"
    )

    settings = loader.load(paths)

    assert [each.name for each in settings.connectors] == ["terminal"]
    assert "no_such_pigeon" in settings.broken["pigeon"]


def test_the_watchdog_has_times_for_everything(paths: Paths) -> None:
    assert loader.load(paths).watchdog.turn_silence == 1800
    paths.muster_yaml.write_text("agents: {freshness: 25s}\nwatchdog: {every: 5s, cancel_after: 2h}\n")
    settings = loader.load(paths)
    assert (settings.agents.freshness, settings.watchdog.every, settings.watchdog.cancel_after) == (25, 5, 7200)


def test_a_freshness_that_no_healthy_agent_could_keep_is_refused(paths: Paths) -> None:
    (problem,) = refused(paths, "timezone: UTC\nagents:\n  heartbeat: 20s\n  freshness: 30s\n")
    assert problem.startswith("muster.yaml:2: agents: freshness is 30 s")
    assert "give it 40 s or more" in problem


def test_a_check_tells_what_the_fleet_as_a_whole_breaks(paths: Paths) -> None:
    paths.roster_yaml.write_text("agents:\n  - {name: a, role: tester}\n  - {name: b, host: localhost}\n")
    found = loader.check(paths)
    assert [problem.key for problem in found.problems] == ["agents", "agents", "agents[a].role"]
    assert found.roster is not None
    assert [problem.key for problem in found.roster.not_in_effect] == ["agents[b].host"]
    paths.roles.mkdir()
    (paths.roles / "tester.md").write_text("---\nmandate: Tests.\n---\nYou test.\n")
    paths.roster_yaml.write_text("preset: minimal\nagents:\n  - {name: a, role: tester}\n")
    assert loader.check(paths).problems == ()
    (paths.roles / "tester.md").write_text("You test.\n")
    told = [str(problem) for problem in loader.check(paths).problems]
    assert told[0].startswith("roles/tester.md:1: begins without a header")
    assert told[1].startswith("roster.yaml:3:15: agents[a].role: no role is called 'tester'")


def test_workspaces_may_be_where_the_settings_put_them(paths: Paths) -> None:
    paths.roster_yaml.write_text("preset: minimal\nagents:\n  - {name: a, workspace: /srv/fleet/a}\n")
    assert [problem.key for problem in loader.check(paths).problems] == ["agents[a].workspace"]
    paths.muster_yaml.write_text("agents: {workspaces: /srv/fleet}\n")
    assert loader.check(paths).problems == ()


def test_a_check_reads_both_files_and_what_they_say_of_each_other(paths: Paths) -> None:
    paths.muster_yaml.write_text("accounts:\n  main: {provider: openai}\ntimezone: UTC\n")
    paths.roster_yaml.write_text("agents:\n  - {name: a, account: main}\n  - {name: b, account: mian}\n  - {nam: c}\n")
    found = loader.check(paths)
    assert [str(problem) for problem in found.problems] == [
        "roster.yaml:3:15: agents[b].account: no account is called 'mian'. Known are main.",
        "roster.yaml:4:5: agents[2].name: is missing.",
        "roster.yaml:4:6: agents[2].nam: is not known here. Did you mean 'name'? Known are role, runtime, model, "
        "sandbox, account, budget, persistent, skills, prompt, host, ssh, hosting, tmux_socket, room, heartbeat, "
        "freshness, clone, context, auto_continue, env, name, alias, workspace, command.",
    ]
    assert found.settings is not None
    assert found.roster is None


def test_a_check_warns_of_a_budget_for_an_agent_that_the_roster_does_not_have(paths: Paths) -> None:
    paths.muster_yaml.write_text("budgets:\n  agents:\n    coder0: {tokens: 2M}\n    codre1: {tokens: 2M}\n")
    paths.roster_yaml.write_text("preset: minimal\nagents:\n  - {name: coder0}\n  - {name: coder1}\n")
    found = loader.check(paths)
    (warning,) = found.warnings
    assert without_column(warning).startswith(
        "muster.yaml:4: budgets.agents.codre1: the roster has no agent of this name."
    )
    assert "Did you mean 'coder1'? There are coder0, coder1." in warning
    assert not found.problems, "one may be launched that is not in the roster"


def test_tasks_of_a_role_that_there_is_not_cannot_be_bounded(paths: Paths) -> None:
    (told,) = refused(paths, "dispatch:\n  at_once:\n    roles: {board-technical: 1, codre: 3}\n")
    assert told.startswith("muster.yaml:3: dispatch.at_once.roles.codre: there is none of this name.")
    assert "Did you mean 'coder'?" in told


def test_a_check_lists_the_mistakes_of_both(paths: Paths) -> None:
    paths.muster_yaml.write_text("timzone: UTC\n")
    paths.roster_yaml.write_text("agents: 3\n")
    assert [problem.file for problem in loader.check(paths).problems] == ["muster.yaml", "roster.yaml"]


def test_the_schema_knows_every_connector_and_all_that_a_valid_file_says(paths: Paths) -> None:
    schema = json.loads(json.dumps(loader.schema()))
    jsonschema: Any = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = yaml.safe_load(MATRIX + "operators: {'matrix:@a:b': admin}\nregister: {url: 'sqlite:////x'}\n")
    jsonschema.Draft202012Validator(schema).validate(valid)
    for wrong in ({"timzone": "UTC"}, {"operators": {"matrix:@a:b": "boss"}}, {"connectors": {"matrix": {"x": 1}}}):
        assert not jsonschema.Draft202012Validator(schema).is_valid(wrong)


def test_the_schema_has_the_rosters_in_it_with_the_operators_own_roles(paths: Paths) -> None:
    paths.roles.mkdir()
    (paths.roles / "tester.md").write_text("---\nmandate: Tests.\n---\nYou test.\n")
    whole = json.loads(json.dumps(loader.schema(paths)))
    fleet = json.loads(json.dumps(loader.roster_schema(paths)))
    assert whole["$defs"]["RosterFile"]["properties"] == fleet["properties"]
    assert {"AgentEntry", "RosterDefaults"} <= set(whole["$defs"])
    (known,) = [each["enum"] for each in fleet["$defs"]["AgentEntry"]["properties"]["role"]["anyOf"] if "enum" in each]
    assert {"coder", "board-technical", "tester"} <= set(known)
    jsonschema: Any = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(fleet)
    for preset in PRESETS:
        jsonschema.Draft202012Validator(fleet).validate(yaml.safe_load(presets.text(preset, runtime="sim")))
    for wrong in ("agents: [{nam: a}]", "agents: [{name: A}]", "preset: big", "agents: [{}]", "version: 2"):
        assert not jsonschema.Draft202012Validator(fleet).is_valid(yaml.safe_load(wrong))


def test_the_schemas_are_written_beside_the_files(paths: Paths) -> None:
    written = loader.write_schemas(paths)
    assert [path.name for path in written] == ["muster.schema.json", "roster.schema.json"]
    for path, line in written.items():
        assert json.loads(path.read_text())["$schema"].startswith("https://json-schema.org/")
        assert line == f"# yaml-language-server: $schema={path.name}"
    paths.roster_yaml.write_text("\n".join([*written.values(), "preset: minimal"]))
    assert loader.check(paths).problems == ()


# --- accounts, budgets, sandboxes ----------------------------------------------------------------------------------

SPENDING = """\
accounts:
  main: {provider: anthropic, credential: env:KEY}
  spare: {provider: openai, base_url: "http://localhost:8000/v1/", passthrough: true}
budgets:
  weights: {cache_read: 0.2}
  agent: {tokens: 2M, window: day}
  host:
    - {tokens: 20M, window: day}
    - {usd: 300, window: month, policy: freeze}
  accounts:
    main: {usd: 100.5, window: 5h, policy: kill}
  agents:
    coder0: {tokens: 500k}
sandboxes:
  docs:
    extends: bubblewrap
    routes: [docs.python.org]
    memory: 4 GB
    allowance: {tokens: 1M}
  wide: {extends: [docs], routes: ["github.com:443"]}
"""


def test_budgets_are_read_as_limits_with_their_scopes(paths: Paths) -> None:
    paths.muster_yaml.write_text(SPENDING)
    settings = loader.load(paths)
    assert [
        (scope, limit.amount, limit.unit, limit.window, limit.policy) for scope, limit in settings.budgets.pools()
    ] == [
        ("host", 20e6, "tokens", "day", "cutoff"),
        ("host", 300, "usd", "month", "freeze"),
        ("account:main", 100.5, "usd", "5h", "kill"),
    ]
    assert [(scope, limit.amount, limit.window) for scope, limit in settings.budgets.allowances()] == [
        ("host", 2e6, "day"),
        ("agent:coder0", 500e3, None),
    ]
    assert settings.accounts["spare"].upstream == "http://localhost:8000"
    assert settings.accounts["main"].upstream is None
    assert settings.sandboxes["wide"].extends == ("docs",)
    assert settings.sandboxes["docs"].memory == 4 * 10**9


@pytest.mark.parametrize(
    ("was", "now", "line", "key", "said"),
    [
        ("tokens: 2M, window", "tokens: 2 millions, window", 6, "budgets.agent.tokens", "like 500000, 500k or 2M"),
        (
            "{tokens: 500k}",
            "{tokens: 500k, usd: 3}",
            13,
            "budgets.agents.coder0",
            "found tokens and usd of tokens, usd and share",
        ),
        ("{tokens: 500k}", "{window: day}", 13, "budgets.agents.coder0", "found none of"),
        ("usd: 300", "usd: -3", 9, "budgets.host[1].usd", "more than 0"),
        ("policy: kill", "policy: stop", 11, "budgets.accounts.main.policy", "allowed are cutoff, freeze, kill"),
        ("window: 5h", "window: 5 o'clock", 11, "budgets.accounts.main.window", "Write day, week or month (UTC)"),
        ("main: {usd", "mian: {usd", 11, "budgets.accounts.mian", "Did you mean 'main'?"),
        ("cache_read: 0.2", "cached: 0.2", 5, "budgets.weights", "no kind of tokens is called 'cached'"),
        ("[docs.python.org]", "[docs.python.org, localhost]", 17, "sandboxes.docs.routes[1]", "list its address"),
        ('"github.com:443"', "https://github.com/x", 20, "sandboxes.wide.routes[0]", "it is a URL"),
        ("extends: bubblewrap", "extend: bubblewrap", 16, "sandboxes.docs.extend", "Did you mean 'extends'?"),
        ("extends: [docs]", "extends: [docs, wide]", 20, "sandboxes.wide.extends", "goes round in a circle"),
        ("  wide:", "  ../wide:", 20, "sandboxes.../wide", "a lower-case letter, then"),
        (
            "credential: env:KEY",
            "credential: env:KEY, passthrough: true",
            2,
            "accounts.main",
            "passthrough: true",
        ),
    ],
)
def test_a_mistake_in_what_may_be_spent_is_located(
    paths: Paths, was: str, now: str, line: int, key: str, said: str
) -> None:
    assert was in SPENDING
    told = refused(paths, SPENDING.replace(was, now, 1))
    assert len(told) == 1, told
    assert told[0].startswith(f"muster.yaml:{line}: {key}: "), told
    assert said in told[0]


WINDOWS = """\
accounts:
  main:
    provider: anthropic
    kind: subscription
    windows: [5h, {name: 7d_opus, length: 7d}]
    serves: {roles: [coder], runtimes: [claude], models: [opus]}
    at_once: 4
  key:
    provider: openai
    limit: {usd: 100, window: month}
budgets:
  roles:
    coder: {tokens: 5M, window: day}
  agents:
    coder0: {share: 20%, of: main, window: 5h}
  accounts:
    main: {share: 80%, window: 7d_opus}
pacing:
  burst: 2.5%
  ladder: [opus, sonnet, "codex:gpt-5-codex"]
  runaway: {tokens: 5M}
"""


def test_accounts_have_windows_and_shares_are_of_them(paths: Paths) -> None:
    paths.muster_yaml.write_text(WINDOWS)
    settings = loader.load(paths)
    main = settings.accounts["main"]
    assert [(each.name, each.length_s) for each in main.windows] == [("5h", 18_000.0), ("7d_opus", 604_800.0)]
    assert main.serves.fits(role="coder", runtime="claude", model="claude-opus-4-5")
    assert not main.serves.fits(role="coder", runtime="claude", model="claude-haiku-4-5")
    assert not main.serves.fits(role="board", runtime="claude", model=None)
    assert main.at_once == 4
    assert [(scope, limit.amount, limit.unit, limit.window) for scope, limit in settings.budgets.pools()] == [
        ("role:coder", 5e6, "tokens", "day"),
        ("account:main", 0.8, "share", "7d_opus"),
    ]
    assert [(scope, limit.amount, limit.of) for scope, limit in settings.budgets.allowances()] == [
        ("agent:coder0", 0.2, "main")
    ]
    assert settings.pacing.burst == 0.025
    assert settings.pacing.borrow == 0.5


def test_without_accounts_and_pacing_nothing_is_bounded(paths: Paths) -> None:
    paths.muster_yaml.write_text("accounts:\n  main: {provider: anthropic}\n")
    main = loader.load(paths).accounts["main"]
    assert (main.kind, main.windows, main.limit, main.at_once) == ("api_key", (), (), None)
    assert main.serves.fits(role="board", runtime="pi", model="anything")


@pytest.mark.parametrize(
    ("was", "now", "line", "key", "said"),
    [
        (
            "[5h, {name: 7d_opus, length: 7d}]",
            "[5h, 5h, {name: 7d_opus, length: 7d}]",
            5,
            "accounts.main.windows",
            "5h is listed twice",
        ),
        ("[5h,", "[5h, 300m,", 5, "accounts.main.windows", "found 5h and 300m, which have the same length"),
        ("[5h, {name: 7d_opus, length: 7d}]", "[]", 5, "accounts.main.windows", "leave windows out"),
        ("length: 7d}", "length: 5h}", 5, "accounts.main.windows[7d_opus].length", "says another length"),
        ("[5h,", "[week,", 5, "accounts.main.windows[0]", "not the calendar"),
        ("[5h,", "[400d,", 5, "accounts.main.windows[0]", "to 366 days, such as 5h or 7d"),
        ("[5h,", "[0h,", 5, "accounts.main.windows[0]", "expected the length of a subscription's window"),
        ("share: 80%", "share: 100%", 17, "budgets.accounts.main", "is no limit"),
        (
            "{tokens: 5M, window: day}",
            "[{tokens: 5M, window: day}, {tokens: 6M, window: day}]",
            13,
            "budgets.roles.coder[1]",
            "a second limit in tokens for day; the first is 5M tokens. Keep one.",
        ),
        (
            "limit: {usd: 100, window: month}",
            "limit: [{usd: 100, window: month}, {usd: 20, window: month}]",
            10,
            "accounts.key.limit[1]",
            "a second limit in US dollars for month",
        ),
        ("    kind: subscription\n", "    # as it was\n", 5, "accounts.main.windows", "kind: subscription"),
        ("roles: [coder]", "roles: [codre]", 6, "accounts.main.serves.roles[0]", "Did you mean 'coder'?"),
        ("runtimes: [claude]", "runtimes: [cluade]", 6, "accounts.main.serves.runtimes", "Did you mean 'claude'?"),
        ("at_once: 4", "at_once: 0", 7, "accounts.main.at_once", "1"),
        ("usd: 100, window", "share: 10%, window", 10, "accounts.key.limit", "cannot have a share of one"),
        ("coder: {tokens", "codr: {tokens", 13, "budgets.roles.codr", "Did you mean 'coder'?"),
        ("share: 20%", "share: 120%", 15, "budgets.agents.coder0.share", "up to 100%"),
        ("share: 20%", "share: -1%", 15, "budgets.agents.coder0.share", "above 0%"),
        ("share: 20%", "share: 0.2", 15, "budgets.agents.coder0.share", "like 20%"),
        ("share: 20%", "share: 20%, tokens: 2M", 15, "budgets.agents.coder0", "found tokens and share"),
        ("of: main", "of: mian", 15, "budgets.agents.coder0.of", "Did you mean 'main'?"),
        ("of: main", "of: key", 15, "budgets.agents.coder0.of", "has no windows"),
        ("of: main, ", "", 15, "budgets.agents.coder0", "a share of which account?"),
        ("of: main, window: 5h", "of: main", 15, "budgets.agents.coder0", "without a window"),
        ("window: 5h}", "window: 7d}", 15, "budgets.agents.coder0.window", "has no window '7d'"),
        ("80%, window", "80%, of: key, window", 17, "budgets.accounts.main.of", "its own window"),
        ("tokens: 5M, window: day", "tokens: 5M, of: main, window: day", 13, "budgets.roles.coder", "Only a share"),
        ("2.5%", "101%", 19, "pacing.burst", "from 0% to 100%"),
        ("2.5%", "2.5", 19, "pacing.burst", "like 3%"),
        ("sonnet,", "opus,", 20, "pacing.ladder", "is listed twice"),
        ('"codex:', '"codx:', 20, "pacing.ladder", "Did you mean 'codex'?"),
        ("{tokens: 5M}\n", "{}\n", 21, "pacing.runaway", "neither tokens nor usd"),
    ],
)
def test_a_mistake_in_accounts_and_pacing_is_located(
    paths: Paths, was: str, now: str, line: int, key: str, said: str
) -> None:
    assert was in WINDOWS
    told = refused(paths, now.join(WINDOWS.rsplit(was, 1)))
    assert len(told) == 1, told
    assert told[0].startswith(f"muster.yaml:{line}: {key}: "), told
    assert said in told[0]
