"""`muster init` leaves a person with two files that work and explain themselves, and overwrites nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from bot.commands.registry import CommandTable
from bot.config import loader
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.interfaces.cli import main as cli
from bot.setup import wizard, wizard_chat
from bot.setup.wizard_chat import WizardAnswers
from bot.setup.wizard_login import Desk
from bot.text.errors import ConfigError, UserError
from fleet import presets
from fleet.roster.schema import PRESETS, Preset

MATRIX = WizardAnswers(
    homeserver="https://matrix.example.org",
    user="@muster:example.org",
    room="!abc:example.org",
    operators=("@ana:example.org", "matrix:@bo:example.org"),
    runtime="claude",
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    return Paths.of({"MUSTER_HOME": str(tmp_path / "m")})


def test_without_questions_there_is_a_terminal(paths: Paths) -> None:
    wizard.init(paths, WizardAnswers(runtime="none"), None)
    found = loader.check(paths)
    assert found.problems == ()
    assert found.warnings == ()
    assert found.settings is not None
    assert [each.kind for each in found.settings.connectors] == ["terminal"]
    assert found.roster is not None
    assert found.roster.agents == ()
    assert paths.muster_yaml.stat().st_mode & 0o777 == 0o600


def test_what_is_written_of_accounts_and_budgets_is_right_once_it_is_no_comment(paths: Paths) -> None:
    wizard.init(paths, WizardAnswers(runtime="none"), None)
    text = paths.muster_yaml.read_text()
    for block in ("accounts", "budgets", "pacing"):
        lines = text.splitlines()
        first = last = lines.index(f"# {block}:")
        while last < len(lines) and lines[last].startswith("# "):
            lines[last] = lines[last][2:]
            last += 1
        assert last >= first + 3
        paths.muster_yaml.write_text("\n".join(lines))
        assert loader.check(paths).problems == (), block
        text = "\n".join(lines)
    settings = loader.load(paths)
    assert str(settings.accounts["work"].credential) == "env:ANTHROPIC_API_KEY"
    assert [(scope, limit.amount, limit.unit) for scope, limit in settings.budgets.pools()] == [
        ("host", 20e6, "tokens"),
        ("host", 50.0, "usd"),
        ("role:coder", 5e6, "tokens"),
    ]
    assert [(scope, limit.window) for scope, limit in settings.budgets.allowances()] == [
        ("host", "day"),
        ("agent:coder0", "7d"),
    ]
    assert [each.name for each in settings.accounts["main"].windows] == ["5h", "7d"]
    assert settings.pacing.burst == 0.03


def test_a_matrix_room_from_options(paths: Paths) -> None:
    wizard.init(paths, MATRIX, None)
    found = loader.check(paths)
    assert found.problems == ()
    assert found.settings is not None
    matrix = found.settings.connector("matrix")
    assert matrix is not None
    assert matrix.fleet_room == "!abc:example.org"
    assert str(matrix.settings.access_token) == wizard_chat.TOKEN  # type: ignore[attr-defined]
    assert found.settings.operators == {"matrix:@ana:example.org": "admin", "matrix:@bo:example.org": "admin"}
    assert found.roster is not None
    lead, polisher = found.roster.agents[:2]
    assert (lead.role, lead.runtime) == ("orchestrator", "claude")
    assert (polisher.role, polisher.runtime) == ("enhancer", "claude")
    assert found.roster.preset == "general"


def test_a_discord_channel_from_options(paths: Paths) -> None:
    given = WizardAnswers(
        guild="123456789012345678", channel="234567890123456789", operators=("345678901234567890",), runtime="sim"
    )
    answers = wizard.init(paths, given, None)
    found = loader.check(paths)
    assert found.problems == ()
    assert found.settings is not None
    discord = found.settings.connector("discord")
    assert discord is not None
    assert str(discord.settings.token) == wizard_chat.DISCORD_TOKEN  # type: ignore[attr-defined]
    assert found.settings.operators == {"discord:345678901234567890": "admin"}
    assert "MUSTER_DISCORD_TOKEN" in wizard.next_steps(answers, paths)


def test_what_discord_needs_is_named_and_asked_for_again(paths: Paths) -> None:
    with pytest.raises(UserError, match="For Discord, --guild, --channel, --operator must be given"):
        wizard.init(paths, WizardAnswers(chat="discord"), None)
    given = iter(["", "muster", "123456789012345678", "234567890123456789", "ana", "345678901234567890", "sim"])
    asked: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(given)

    wizard.init(paths, WizardAnswers(chat="discord"), ask)
    assert sum("not a Discord id" in question for question in asked) == 2
    assert loader.check(paths).problems == ()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("runtime", ["sim", "none", None])
def test_every_preset_is_a_fleet_that_stands(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, preset: Preset, runtime: str | None
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answers = wizard.init(paths, WizardAnswers(preset=preset, runtime=runtime), None)
    found = loader.check(paths)
    assert [str(problem) for problem in found.problems] == []
    assert found.roster is not None
    assert found.roster.not_in_effect == ()
    assert found.roster.preset == preset
    core = [(entry.name, entry.role) for entry in found.roster.agents if entry.persistent]
    expected = [("lead", "orchestrator"), ("polisher", "enhancer")]
    assert core == (expected[:1] if preset == "minimal" else expected)
    assert len(found.roster.agents) > len(core) or preset == "minimal"
    assert {entry.runtime for entry in found.roster.agents} == {
        {"sim": "sim", "none": None}.get(str(runtime), "claude")
    }
    assert ("not on this machine yet" in wizard.next_steps(answers, paths)) == (runtime is None)


def test_the_presets_differ() -> None:
    texts = [presets.text(preset) for preset in PRESETS]
    assert len(set(texts)) == len(PRESETS)
    assert all(f"preset: {preset}\n" in text for preset, text in zip(PRESETS, texts, strict=True))


def test_what_is_commented_out_is_valid_too(paths: Paths) -> None:
    wizard.init(paths, WizardAnswers(runtime="none"), None)
    for path in (paths.muster_yaml, paths.roster_yaml):
        lines = path.read_text().splitlines()
        sentences = [line for line in lines if line.startswith("# ") and not line.startswith(("#  ", "# - "))]
        keep = {line for line in sentences if not line[2:].split("#")[0].rstrip().endswith(":")}
        path.write_text("\n".join(line if line in keep else _uncommented(line) for line in lines))
    found = loader.check(paths)
    assert [str(problem) for problem in found.problems] == []
    assert found.roster is not None
    assert found.roster.agents[0].name == "coder0"
    assert found.settings is not None
    assert found.settings.operators == {"matrix:@ana:example.org": "admin"}
    assert [each.name for each in found.settings.connectors] == ["terminal", *wizard_chat.CHATS[1:]]


def _uncommented(line: str) -> str:
    start = len(line) - len(line.lstrip())
    return line[:start] + line[start:].removeprefix("# ") if line[start:].startswith("# ") else line


@pytest.mark.parametrize("names", [["roster.yaml"], ["muster.yaml", "roster.yaml"]])
def test_nothing_is_overwritten(paths: Paths, names: list[str]) -> None:
    paths.config.mkdir(mode=0o700)
    for name in names:
        (paths.config / name).write_text("# mine\n")
    with pytest.raises(UserError, match=r"roster.yaml (is|are) there already, and nothing is overwritten"):
        wizard.init(paths, WizardAnswers(), None)
    assert {path.name: path.read_text() for path in paths.config.iterdir()} == dict.fromkeys(names, "# mine\n")


KEPT = """\
# mine
connectors:
  matrix:  # at home
    homeserver: http://127.0.0.1:8008
    user: "@muster:home"
    access_token: env:TOKEN
operators: {"matrix:@ana:home": admin}
"""


def kept(paths: Paths, more: str = "") -> None:
    paths.config.mkdir(mode=0o700)
    paths.muster_yaml.write_text(KEPT + more)


def test_a_muster_yaml_with_a_room_gets_what_it_lacks(paths: Paths) -> None:
    kept(paths)
    lines: list[str] = []

    def ask(question: str, default: str) -> str:
        lines.append(question.splitlines()[-1])
        return {"What your fleet runs on": "claude"}.get(question.partition(":")[0], default)

    environ = {"ANTHROPIC_API_KEY": "k"}
    desk = Desk(ask=ask, tell=lambda _: None, secret=lambda _: "", log_in=lambda _: False, environ=environ)
    answers = wizard.init(paths, WizardAnswers(base_url="http://127.0.0.1:9"), desk)
    assert not any("Chat system" in line for line in lines), "that is settled"
    found = loader.check(paths)
    assert found.problems == ()
    assert found.settings is not None
    assert found.roster is not None
    assert [each.kind for each in found.settings.connectors] == ["matrix"]
    assert [str(each.credential) for each in found.settings.accounts.values()] == ["env:ANTHROPIC_API_KEY"]
    assert found.roster.agents != ()
    assert paths.muster_yaml.read_text().startswith(KEPT), "comments and order stay"
    assert "added accounts.anthropic" in wizard.next_steps(answers, paths)


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        (WizardAnswers(chat="discord"), "--chat"),
        (WizardAnswers(homeserver="https://elsewhere"), "--homeserver"),
        (WizardAnswers(token="env:OTHER"), "--token"),
    ],
)
def test_answers_that_a_muster_yaml_has_already_are_refused(paths: Paths, answers: WizardAnswers, named: str) -> None:
    kept(paths)
    with pytest.raises(UserError, match=f"keeps its chat systems, so {named} has no effect"):
        wizard.init(paths, answers, None)
    assert [path.name for path in paths.config.iterdir()] == ["muster.yaml"]


def test_an_account_that_is_there_is_not_asked_for(paths: Paths) -> None:
    kept(paths, "accounts:\n  mine: {provider: anthropic, credential: env:MINE}\n")
    wizard.init(paths, WizardAnswers(runtime="claude"), None, environ={"ANTHROPIC_API_KEY": "k"})
    assert list(loader.load(paths).accounts) == ["mine"]
    assert paths.roster_yaml.is_file()


def test_a_muster_yaml_with_a_mistake_is_left_alone(paths: Paths) -> None:
    kept(paths, "accounts: 3\n")
    with pytest.raises(ConfigError, match="accounts"):
        wizard.init(paths, WizardAnswers(runtime="claude"), None)
    assert [path.name for path in paths.config.iterdir()] == ["muster.yaml"]


def test_not_even_a_link_that_leads_nowhere(paths: Paths, tmp_path: Path) -> None:
    paths.config.mkdir(mode=0o700)
    paths.muster_yaml.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="there already"):
        wizard.init(paths, WizardAnswers(), None)
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_missing_is_named_by_its_options(paths: Paths) -> None:
    with pytest.raises(UserError, match="--homeserver, --user, --operator must be given"):
        wizard.init(paths, WizardAnswers(chat="matrix"), None)


def test_a_wrong_answer_writes_nothing(paths: Paths) -> None:
    wrong = WizardAnswers(homeserver="localhost", user="bot", operators=("ana",), runtime="simm", token="syt_hunter2")
    with pytest.raises(UserError) as caught:
        wizard.init(paths, wrong, None)
    said = str(caught.value)
    for words in (
        "not a URL",
        "not a Matrix user: 'bot'",
        "not a Matrix user: 'ana'",
        "Did you mean 'sim'?",
        "env:NAME",
    ):
        assert words in said
    assert "hunter2" not in said
    assert not paths.muster_yaml.exists()


def test_questions_are_asked_again_until_the_answer_will_do(paths: Paths) -> None:
    given = iter(
        ["irc", "matrix", "localhost", "http://localhost:8008", "@muster:x", "secret", "", "", "ana", "@ana:x", "none"]
    )
    asked: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return next(given)

    answers = wizard.init(paths, WizardAnswers(), ask)

    assert list(given) == []
    assert answers.token == wizard_chat.TOKEN
    assert any("choose terminal, matrix, discord or tmux" in question for question in asked)
    assert any("Write http:// or https:// first" in question for question in asked)
    assert "MUSTER_MATRIX_TOKEN" in wizard.next_steps(answers, paths)
    assert loader.check(paths).problems == ()


def test_strange_answers_cannot_write_other_keys(paths: Paths) -> None:
    sly = WizardAnswers(
        homeserver="https://h", user='@a:b"\noperators:\n  "terminal:eve": admin', operators=("@ana:x",), runtime="none"
    )
    with pytest.raises(UserError):
        wizard.init(paths, sly, None)
    assert not paths.muster_yaml.exists()


def test_the_command(paths: Paths) -> None:
    environ = {**os.environ, "MUSTER_HOME": str(paths.config)}
    command = [sys.executable, "-m", "bot", "init"]
    unasked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environ, check=False)
    assert (unasked.returncode, b"--yes" in unasked.stderr) == (2, True)

    person = pexpect.spawn(command[0], command[1:], env=environ, encoding="utf-8", timeout=30)
    person.expect("terminal, matrix, discord or tmux")
    person.send("\r")
    person.expect("runs on")
    person.send("sim\r")
    person.expect("muster up")
    person.expect(pexpect.EOF)
    person.close()
    assert person.exitstatus == 0
    assert loader.check(paths).roster.preset == "general"  # type: ignore[union-attr]
    again = subprocess.run([*command, "--yes"], capture_output=True, env=environ, check=False)
    assert (again.returncode, b"nothing is overwritten" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "preset", "connectors"),
    [
        ([], "general", ["terminal"]),
        (["--preset", "coding"], "coding", ["terminal"]),
        (["--preset", "matrix", "--homeserver=https://h", "--user=@m:h", "--operator=@a:h"], "general", ["matrix"]),
        (
            ["--preset=discord", f"--guild={10**17}", f"--channel={10**18}", f"--operator=discord:{10**17}"],
            "general",
            ["discord"],
        ),
        (["--preset", "terminal", "--preset", "minimal"], "minimal", ["terminal"]),
        (["--chat", "terminal", "--preset", "hybrid"], "hybrid", ["terminal"]),
    ],
)
def test_a_preset_is_a_fleet_or_as_ever_where_to_talk(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, options: list[str], preset: str, connectors: list[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(paths.config))
    assert cli.run(CommandTable(), ["init", "--yes", "--runtime", "sim", *options]) == 0
    found = loader.check(paths)
    assert found.problems == ()
    assert found.settings is not None
    assert found.roster is not None
    assert found.roster.preset == preset
    assert [each.kind for each in found.settings.connectors if each.kind in connectors] == connectors


@pytest.mark.parametrize("options", [["coding", "hybrid"], ["terminal", "matrix"], ["big"]])
def test_presets_that_contradict_each_other_write_nothing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(paths.config))
    given = [word for option in options for word in ("--preset", option)]
    assert cli.run(CommandTable(), ["init", "--yes", *given]) == 2
    assert "hybrid" in capsys.readouterr().err or options[0] == "terminal"
    assert not paths.config.exists()


def test_a_roster_with_thousands_of_mistakes_is_told_in_a_hundred_lines(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(paths.config))
    paths.config.mkdir(mode=0o700)
    paths.roster_yaml.write_text("agents:\n" + "".join(f"  - {{name: a{n}, runtime: cladue}}\n" for n in range(3_000)))
    assert cli.run(CommandTable(), ["config", "check"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("roster.yaml:2:16: agents[a0].runtime: found 'cladue'")
    assert all("Did you mean 'claude'?" in line for line in said[:100])
    assert said[100:] == ["... and 2,900 more problems."]


def test_settings_that_the_running_muster_has_not_read_are_said_to_be_so(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(paths.config))
    wizard.init(paths, WizardAnswers(runtime="none"), None)
    paths.prepare()
    with only_one(paths.lock):
        began = paths.lock.stat().st_mtime
        os.utime(paths.muster_yaml, (began - 1, began - 1))
        assert cli.run(CommandTable(), ["config", "check"]) == 0
        assert capsys.readouterr().out == "Both files are valid.\n"
        os.utime(paths.muster_yaml, (began + 1, began + 1))
        assert cli.run(CommandTable(), ["config", "check"]) == 0
        assert "`muster down` and `muster up --detach`" in capsys.readouterr().out
    assert cli.run(CommandTable(), ["config", "check"]) == 0
    assert "muster down" not in capsys.readouterr().out
