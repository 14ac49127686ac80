"""Names of the branches that Muster pushes, and which branches it never pushes to. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final

#: Everything that Muster pushes begins so.
PREFIX: Final = "muster/issue-"
#: Characters of a title that become part of a name.
LONGEST_SLUG: Final = 40
#: Names that are tried. More mean that somebody makes branches to be in the way.
_MOST_NAMES: Final = 50
_OURS: Final = re.compile(r"muster/issue-[1-9][0-9]{0,17}(-[a-z0-9]+)*")


def proposed(number: int, title: str) -> str:
    """Return the name for an issue, such as ``muster/issue-17-fix-the-build``; only the number if no letter is usable.

    Raises:
        ValueError: the number is not one of an issue.
    """
    if not 1 <= number < 10**18:
        raise ValueError(f"{number} is no issue's number. Numbers begin with 1.")
    slug = _slug(title)
    return f"{PREFIX}{number}-{slug}" if slug else f"{PREFIX}{number}"


def chosen(number: int, title: str, *, taken: Mapping[str, str], ours: Callable[[str], bool]) -> str | None:
    """Return the first name that is free or ours.

    Args:
        number: the issue's.
        title: the issue's; untrusted.
        taken: the commits of the branches at the forge, by their names.
        ours: whether Muster pushed this commit as that branch.

    Returns:
        None: all are somebody else's.
    """
    first = proposed(number, title)
    # Git keeps names as files: no branch can be beside one that is a folder of it. Some file systems ignore case.
    folded = {name.casefold(): (name, commit) for name, commit in taken.items()}
    folders = {name[: name.index("/", at)] for name in folded for at in range(len(name)) if name[at : at + 1] == "/"}
    for attempt in range(1, _MOST_NAMES + 1):
        name = first if attempt == 1 else f"{first}-{attempt}"
        if name in folders:
            continue
        if (there := folded.get(name)) is None or (there[0] == name and ours(there[1])):
            return name
    return None


def is_ours(name: str) -> bool:
    """Return whether a name is one that Muster gives to branches."""
    return _OURS.fullmatch(name) is not None


def refusal(name: str, *, default_branch: str, protected: Collection[str]) -> str | None:
    """Return why Muster does not push to a branch, or None if it may.

    Args:
        name: the branch.
        default_branch: the repository's.
        protected: names or patterns of protected branches, as the forge tells them.
    """
    if not is_ours(name):
        return f"{name[:120]!r} is no branch of Muster's. Muster only pushes to branches that begin with {PREFIX}."
    if name == default_branch:
        return f"{name} is the default branch. Make another branch the default one."
    # A star that also stands for slashes protects at least what the forge protects.
    for rule in protected:
        if fnmatchcase(name, rule.replace("**", "*")):
            return f"The forge protects {name} by the rule {rule[:120]!r}. Except {PREFIX}* from that rule."
    return None


def _slug(title: str) -> str:
    text = unicodedata.normalize("NFKD", title[: 10 * LONGEST_SLUG])
    plain = "".join(sign for sign in text if not unicodedata.combining(sign)).casefold()
    words = re.findall(r"[a-z0-9]+", plain)
    slug = "-".join(words)[:LONGEST_SLUG].strip("-")
    # A name that ends so is refused by git (git-check-ref-format(1)); without dots it cannot.
    return slug
