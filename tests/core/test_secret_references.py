"""A configuration says where a secret is; whoever writes the secret itself is told how to refer to it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ValidationError

from core.secret_references import LONGEST_SECRET, Reference, Unresolved


class Block(BaseModel):
    token: Reference


def test_an_environment_variable() -> None:
    reference = Reference.parse("env:MATRIX_TOKEN")
    assert str(reference) == "env:MATRIX_TOKEN"
    assert reference.resolve({"MATRIX_TOKEN": "syt_x\n"}) == "syt_x"


@pytest.mark.parametrize("environ", [{}, {"MATRIX_TOKEN": ""}, {"MATRIX_TOKEN": " "}])
def test_an_environment_variable_that_is_not_set(environ: dict[str, str]) -> None:
    with pytest.raises(Unresolved, match="MATRIX_TOKEN is not set"):
        Reference.parse("env:MATRIX_TOKEN").resolve(environ)


def test_a_file_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("syt_x\n")
    settings = Block.model_validate({"token": "file:token"}, context={"folder": tmp_path})
    assert settings.token.resolve() == "syt_x"


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Reference.parse("file:~/token").name == str(tmp_path / "token")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"\xff\xfe", "is not text"),
        (b"x" * (LONGEST_SECRET + 1), "is longer than"),
    ],
)
def test_a_file_without_a_secret(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(Unresolved, match=said):
        Reference.parse(f"file:{tmp_path}/token").resolve()


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(Unresolved, match="cannot be read: Is a directory"):
        Reference.parse(f"file:{tmp_path}").resolve()


def test_the_keyring_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Unresolved, match="pip install"):
        Reference.parse("keyring:matrix").resolve()


def test_the_keyring_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType("keyring")
    stub.get_password = lambda service, name: {("muster", "matrix"): "syt_x"}.get((service, name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", stub)

    assert Reference.parse("keyring:matrix").resolve() == "syt_x"
    with pytest.raises(Unresolved, match="keyring set muster other"):
        Reference.parse("keyring:other").resolve()


def test_a_keyring_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType("keyring")

    def locked(service: str, name: str) -> str:
        raise RuntimeError("locked")

    stub.get_password = locked  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", stub)
    with pytest.raises(Unresolved, match="RuntimeError: locked"):
        Reference.parse("keyring:matrix").resolve()


@pytest.mark.parametrize(
    "literal", ["syt_c2VjcmV0", "hunter2", "env", "ENV:X", "https://x", "", "sk-ant-1:2", 12, None]
)
def test_a_literal_secret_is_refused_and_not_repeated(literal: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Block.model_validate({"token": literal})
    (error,) = caught.value.errors()
    assert "env:NAME" in error["msg"]
    assert not literal or str(literal) == "env" or str(literal) not in error["msg"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("env:NOT A NAME", "the name of an environment variable"), ("file:token", "must be absolute")],
)
def test_a_reference_that_leads_nowhere(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reference.parse(text)
