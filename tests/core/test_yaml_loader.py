"""Whatever stands in a file, the answer is a value or located sentences, from the fast parser and the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from core import yaml_loader
from core.validation_errors import FileProblems, Problem


class Inner(BaseModel, extra="forbid"):
    number: int = 0
    words: list[str] = []


class Outer(BaseModel, extra="forbid"):
    inner: Inner = Inner()
    many: dict[str, Inner] = {}
    listed: list[Inner] = []


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With libyaml, and as where that is not installed."""
    if request.param == "SafeLoader":
        monkeypatch.delattr(yaml, "CSafeLoader")


def read(folder: Path, text: str | bytes) -> yaml_loader.YamlDocument:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return yaml_loader.read(path)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", {"a": "no"}),
        ("a: 010", {"a": "010"}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2026-01-01", {"a": "2026-01-01"}),
        ("a: 1_000", {"a": 1000}),
        ("a: 1_", {"a": 1}),
        ("a: 1__0", {"a": 10}),
        ("a: -3", {"a": -3}),
        ("a: 1.5e3", {"a": 1500.0}),
        ("a: .5", {"a": 0.5}),
        ("a: .inf", {"a": ".inf"}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("a: '5'", {"a": "5"}),
        ("a: !!str 5", {"a": "5"}),
        ("a: true", {"a": True}),
        ("a: ~", {"a": None}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("1: x\non: y", {"1": "x", "on": "y"}),
        ("\ufeffa: ä", {"a": "ä"}),
        ("a: [x, {y: z}]", {"a": ["x", {"y": "z"}]}),
        ("a: 9" + "9" * 50, {"a": "9" + "9" * 50}),
    ],
)
def test_values_are_what_they_look_like(tmp_path: Path, text: str, value: Any) -> None:
    assert read(tmp_path, text).value == value


@pytest.mark.usefixtures("loader")
def test_places_reach_into_lists_mappings_and_what_is_merged(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "inner: &one\n  number: x\nmany:\n  a:\n    number: y\n  b:\n    <<: *one\n    words: 3\n"
        "listed:\n  - number: 1\n  - words: [a, 7]\n  - wrds: 1\n",
    )
    assert document.validate(Outer) is None
    assert [(problem.line, problem.key) for problem in document.problems] == [
        (2, "inner.number"),
        (5, "many.a.number"),
        (2, "many.b.number"),
        (8, "many.b.words"),
        (11, "listed[1].words[1]"),
        (12, "listed[2].wrds"),
    ]
    assert "Did you mean 'words'?" in str(document.problems[-1])


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("inner: {words: [], nmber: 1}", "1:20: inner.nmber"),
        ("listed:\n  - {number: 1}\n  - words: 3", "3:5: listed[1].words"),
        ("ä: 1\ninner: 3", "2:1: inner"),
        ("inner:\n  number: 1\n  number: 2", "3:3: inner.number"),
        ("inner: {number: *x}", "1:17: *x refers"),
        ("inner: [x\ny: 1]", "2:2: "),
        ("a: 1\nb: \x00", "2:4: contains the control character"),
        (b"a: 1\nbc: \xff", "2:5: not text in UTF-8"),
    ],
)
def test_a_problem_is_told_with_its_column(tmp_path: Path, text: str | bytes, place: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    told = [str(problem) for problem in problems(path)]
    assert any(line.startswith(f"file.yaml:{place}") for line in told), told


def problems(path: Path) -> Sequence[Problem]:
    try:
        document = yaml_loader.read(path)
    except FileProblems as error:
        return error.problems
    document.validate(Outer)
    return document.problems


@pytest.mark.usefixtures("loader")
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(alphabet=st.sampled_from("ab: -\n[]{}&*!|>'\"#?,<%@`\t~019.\x00é\u2028"), max_size=60),
        st.text(max_size=60),
        st.binary(max_size=60),
    )
)
def test_any_file_gives_a_value_or_sentences(tmp_path: Path, text: str | bytes) -> None:
    lines: list[str] = []
    try:
        document = read(tmp_path, text)
        document.validate(Outer)
        document.check()
    except FileProblems as error:
        lines = str(error).splitlines() or ["nothing was said"]
    assert all(line.startswith("file.yaml") for line in lines), lines
