"""`muster init` asks how the runtime logs in, tests it at once, and keeps no key where it does not belong."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from bot.config import loader
from bot.config.paths import Paths
from bot.setup import account_check, wizard
from bot.setup.account_check import AccountAnswer
from bot.setup.wizard_chat import WizardAnswers
from bot.setup.wizard_login import Desk
from bot.text.errors import UserError
from core.secret_references import Reference
from fleet.runtimes import RUNTIMES
from tests.bot.setup.test_account_check import provider

KEY = "sk-ant-api-not-a-real-key"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    return Paths.of({"MUSTER_HOME": str(tmp_path / "m")})


class Person:
    """Somebody who answers the questions in this order."""

    def __init__(
        self, *answers: str, environ: Mapping[str, str] | None = None, log_in: Callable[[str], bool] | None = None
    ) -> None:
        self._answers: Iterator[str] = iter(answers)
        self.asked: list[str] = []
        self.told: list[str] = []
        self.desk = Desk(
            ask=self._ask,
            tell=self.told.append,
            secret=lambda question: self._ask(question, ""),
            log_in=log_in or (lambda _: False),
            environ=environ or {},
        )

    def _ask(self, question: str, default: str) -> str:
        self.asked.append(question)
        said = next(self._answers)
        if said == "^C":
            raise KeyboardInterrupt
        return said or default


def credential(paths: Paths, name: str = "anthropic") -> Reference | None:
    found = loader.check(paths)
    assert found.problems == ()
    assert found.settings is not None
    return found.settings.accounts[name].credential


def test_a_key_in_the_environment_is_offered_and_tested(paths: Paths) -> None:
    with provider(200) as (address, came):
        person = Person("terminal", "claude", "", environ={"ANTHROPIC_API_KEY": KEY})
        wizard.init(paths, WizardAnswers(base_url=address), person.desk)
    assert "Found here: env:ANTHROPIC_API_KEY" in person.asked[-1]
    assert person.told == [f"env:ANTHROPIC_API_KEY: {address.removesuffix('/v1')} takes it."]
    assert len(came) == 1
    assert credential(paths) == Reference("env", "ANTHROPIC_API_KEY")
    assert KEY not in paths.muster_yaml.read_text()


def test_a_key_that_is_entered_goes_into_a_file_of_its_own(paths: Paths) -> None:
    with provider(200) as (address, _):
        person = Person("terminal", "claude", "key", KEY)
        answers = wizard.init(paths, WizardAnswers(base_url=address), person.desk)
    kept = paths.config / "keys" / "anthropic"
    assert kept.read_text() == f"{KEY}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert credential(paths) == Reference("file", str(kept))
    assert KEY not in json.dumps(asdict(answers))
    assert KEY not in " ".join(person.told)


def test_wrong_answers_are_explained_and_asked_again(paths: Paths) -> None:
    with provider(401) as (address, _):
        person = Person(
            "terminal", "claude", KEY, "env:NOWHERE", "key", "two words", "env:GOOD", "later", environ={"GOOD": KEY}
        )
        wizard.init(paths, WizardAnswers(base_url=address), person.desk)
    said = "\n".join(person.told)
    assert "Not understood" in said
    assert KEY not in said
    assert "NOWHERE is not set" in said
    assert "one word" in said
    assert "refuses it (401)" in said
    assert loader.load(paths).accounts == {}


def test_the_answer_before_can_be_changed(paths: Paths) -> None:
    person = Person("terminal", "claude", "back", "sim")
    wizard.init(paths, WizardAnswers(), person.desk)
    assert "runtime: sim" in paths.roster_yaml.read_text()


def test_an_interruption_writes_nothing(paths: Paths) -> None:
    with pytest.raises(KeyboardInterrupt):
        wizard.init(paths, WizardAnswers(), Person("terminal", "claude", "key", "^C").desk)
    assert not paths.config.exists() or list(paths.config.iterdir()) == []


def test_its_own_login_is_run_and_needs_a_yes_to_no_sandbox(paths: Paths) -> None:
    def log_in(runtime: str) -> bool:
        file = paths.state / "logins" / runtime / ".claude" / ".credentials.json"
        file.parent.mkdir(parents=True)
        file.write_text('{"anthropic": {"type": "api_key"}}')
        return True

    person = Person("terminal", "claude", "own", "", "own", "yes", log_in=log_in)
    wizard.init(paths, WizardAnswers(), person.desk)
    assert "Claude Code is logged in." in person.told
    settings = loader.load(paths)
    assert settings.agents.sandbox == "none"
    assert settings.accounts["own"].passthrough


def test_a_login_that_fails_is_asked_again(paths: Paths) -> None:
    person = Person("terminal", "claude", "own", "yes", "later")
    wizard.init(paths, WizardAnswers(), person.desk)
    assert any("is not logged in" in line for line in person.told)
    assert loader.load(paths).accounts == {}


def test_the_key_of_another_runtime_is_offered_too(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = paths.state / "programs"
    programs.mkdir(parents=True)
    for name in ("claude", "codex"):
        (programs / RUNTIMES[name].program).touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(account_check, "check", lambda *_, **__: AccountAnswer(accepted=True, answered="fine"))
    person = Person("terminal", "claude", "", "", environ={"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": "sk-1"})
    wizard.init(paths, WizardAnswers(), person.desk)
    assert "agents on Codex use it too" in person.asked[-1]
    assert credential(paths, "openai") == Reference("env", "OPENAI_API_KEY")


def test_without_questions_a_key_is_named_or_found(paths: Paths) -> None:
    with provider(200) as (address, _):
        given = WizardAnswers(runtime="claude", base_url=address)
        wizard.init(paths, given, None, environ={"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-x"})
    account = loader.load(paths).accounts["anthropic"]
    assert account.credential == Reference("env", "CLAUDE_CODE_OAUTH_TOKEN")
    assert account.kind == "subscription"


def test_without_questions_a_refused_key_writes_nothing(paths: Paths) -> None:
    with provider(401) as (address, _):
        given = WizardAnswers(runtime="claude", base_url=address)
        with pytest.raises(UserError, match="Nothing was written"):
            wizard.init(paths, given, None, login="env:MY_KEY", environ={"MY_KEY": KEY})
    assert not paths.muster_yaml.exists()


@pytest.mark.parametrize(
    ("login", "sentence"), [("env:NOWHERE", "NOWHERE is not set"), ("own", "--sandbox none"), ("key", "--login env:")]
)
def test_without_questions_what_cannot_be_is_said(paths: Paths, login: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        wizard.init(paths, WizardAnswers(runtime="claude"), None, login=login)


def test_a_key_in_place_of_a_reference_is_not_repeated(paths: Paths) -> None:
    with pytest.raises(UserError) as caught:
        wizard.init(paths, WizardAnswers(runtime="claude"), None, login=KEY)
    assert KEY not in str(caught.value)
