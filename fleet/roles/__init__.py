"""The roles: what an agent is for, as data with a page of instructions each.

A role is a Markdown file with a header of YAML between lines of dashes. Those beside this module are shipped; a file of
the same name in the operator's own folder goes before it, and one of another name adds a role. A role with lenses
(``board``) stands for one more role per lens (``board-technical``), whose page ends with the lens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from core import yaml_loader
from core.validation_errors import FileProblems, Problem, suggestion

ORCHESTRATOR = "orchestrator"
ENHANCER = "enhancer"

#: Lower-case letters, digits and dashes, beginning with a letter.
ROLE_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
#: Characters of a page: the agent reads it with its first message.
LONGEST_PAGE = 50_000
SHIPPED = Path(__file__).parent

_Sentence = Annotated[str, Field(min_length=1, max_length=2_000)]
#: How urgent an agent may say that a task is; what is critical people say.
Urgency: TypeAlias = Literal["low", "normal", "high"]
_Command = Annotated[str, Field(pattern=r"^[a-z][a-z-]*( [a-z][a-z-]*)?$")]


class _Header(BaseModel):
    """What stands above a role's page."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    title: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    mandate: _Sentence
    limits: tuple[_Sentence, ...] = ()
    commands: tuple[_Command, ...] = ()
    urgency: Urgency = "normal"
    lenses: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], _Sentence] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What an agent is for."""

    name: str
    title: str
    mandate: str
    """In a sentence."""
    limits: tuple[str, ...]
    """What it does not do."""
    commands: tuple[str, ...]
    """Which of Muster's commands an agent of this role may use."""
    page: str
    """Its instructions, Markdown."""
    urgency: Urgency = "normal"
    """The highest that a task may have which an agent of this role asks for."""
    lens: str | None = None
    """Through which it looks, where its role has several."""
    lenses: tuple[str, ...] = ()
    """The lenses that it has; each makes a role of its own."""
    path: Path
    """The file that says so."""

    @property
    def shipped(self) -> bool:
        """Whether it comes with Muster, unchanged."""
        return self.path.parent == SHIPPED


@dataclass(frozen=True, slots=True)
class Library:
    """Roles by name."""

    roles: Mapping[str, Role]
    problems: tuple[Problem, ...] = field(default=())
    """What is wrong with files of the operator's folder; such a file is left out."""

    def __iter__(self) -> Iterator[Role]:
        return iter(self.roles.values())

    def __contains__(self, name: object) -> bool:
        return name in self.roles

    def get(self, name: str) -> Role | None:
        return self.roles.get(name)

    @property
    def names(self) -> list[str]:
        """Every name, those of lenses behind their role's."""
        return list(self.roles)


def unknown(role: str, names: Collection[str]) -> str:
    """That there is no such role, and which there are."""
    return f"no role is called {role!r}.{suggestion(role, list(names))} There are {', '.join(names)}"


def library(folder: Path | None = None) -> Library:
    """Return the roles that are shipped, and those of the operator's own folder, which may not be there."""
    found = {role.name: role for path in SHIPPED.glob("*.md") for role in read(path)}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.md")) if folder is not None else ():
        try:
            found.update({role.name: role for role in read(path)})
        except FileNotFoundError:
            continue  # removed meanwhile, or a link that leads nowhere
        except FileProblems as error:
            problems += [replace(problem, file=f"{path.parent.name}/{problem.file}") for problem in error.problems]
    return Library(dict(sorted(found.items())), tuple(problems))


def read(path: Path) -> tuple[Role, ...]:
    """Read a role, and after it one for each of its lenses.

    Raises:
        FileNotFoundError: there is no such file.
        FileProblems: it is not valid.
    """
    if not ROLE_NAME.fullmatch(path.stem):
        raise _wrong(path, "not a name for a role. Use lower-case letters, digits and dashes, like tester.md.")
    text = yaml_loader.read_text(path).replace("\r\n", "\n")
    match = re.match(r"(---\n.*?\n)---\n", text, re.DOTALL)
    if match is None:
        raise _wrong(path, "begins without a header. Above the page belong ---, mandate: and a sentence, and ---.", 1)
    document = yaml_loader.parse(path, match[1])
    header = document.validate(_Header)
    document.check()
    page = text[match.end() :].strip()
    if not page or len(page) > LONGEST_PAGE:
        size = f"{len(page)} characters; at most {LONGEST_PAGE} are allowed" if page else "nothing"
        raise _wrong(
            path, f"found {size} where the page of instructions belongs.", text.count("\n", 0, match.end()) + 1
        )
    if header is None:
        raise AssertionError("a header that is not valid has a problem")
    role = Role(
        name=path.stem,
        title=header.title or path.stem.replace("-", " ").capitalize(),
        mandate=_line(header.mandate),
        limits=tuple(_line(limit) for limit in header.limits),
        commands=header.commands,
        urgency=header.urgency,
        page=page,
        lenses=tuple(header.lenses),
        path=path,
    )
    return (_with_every_lens(role, header.lenses), *(_with_lens(role, *lens) for lens in header.lenses.items()))


def instructions(role: Role | None, prompt: str | None) -> str:
    """Return what an agent is told before the first thing that is said to it: its role's page, then its own prompt."""
    page = f'<role name="{role.name}">\n{role.page}\n</role>' if role is not None else ""
    return "\n\n".join(part for part in (page, prompt or "") if part)


def _with_every_lens(role: Role, lenses: Mapping[str, str]) -> Role:
    if not lenses:
        return role
    listed = "\n".join(f"- {name}: {_line(text)}" for name, text in lenses.items())
    intro = "**Lenses**\n\nNone is yours alone: look through each in turn, and say which made you see what."
    return replace(role, page=f"{role.page}\n\n{intro}\n\n{listed}")


def _with_lens(role: Role, lens: str, text: str) -> Role:
    return replace(
        role,
        name=f"{role.name}-{lens}",
        title=f"{role.title}, {lens}",
        page=f"{role.page}\n\n**Your lens: {lens}**\n\n{_line(text)}",
        lens=lens,
        lenses=(),
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _wrong(path: Path, message: str, line: int | None = None) -> FileProblems:
    return FileProblems([Problem(file=path.name, line=line, key="", message=message)])
