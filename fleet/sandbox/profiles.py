"""Sandbox profiles: named kinds of isolation that add to one another. Pure; nothing is looked up on the host.

A profile is merged from those that it extends, in the order in which it names them, and from itself last: routes,
mounts, variables and flags add up, where a later one of the same place or name goes before an earlier one; of the rest
the last that is said holds. Limits on spending are not merged: they stay with the profile that says them, and
`SandboxProfile.lineage` tells in which order they are looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from core.validation_errors import suggestion
from fleet.errors import FleetError
from fleet.name_rules import RESERVED, VARIABLE
from fleet.sandbox import container, container_options
from fleet.sandbox.container import Engine

_T = TypeVar("_T")
Kind: TypeAlias = Literal["bubblewrap", "container", "none"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DEFAULT: Final[Kind] = "bubblewrap"
#: Between the names of profiles that are used together.
JOINS: Final = "+"
#: Maximum number of profiles that are used together.
MOST_JOINED: Final = 8
#: Names become scopes of limits and words on command lines.
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
#: A host, or all below one, with a port or without. Who lets traffic through checks more.
_ROUTE: Final = re.compile(
    r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9./-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:./]+\](:[0-9]{1,5})?"
)
#: A process of Node.js alone reserves some hundred megabytes.
LEAST_MEMORY: Final = 64 * 2**20
LEAST_PIDS: Final = 16
#: Nothing is put over, or into, these places inside: the system, and what the sandbox itself makes.
_KEPT: Final = tuple(
    map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/sys", "/dev", "/run"))
)


class ProfileProblem(FleetError):
    """A profile cannot be. `profile` and `key` tell where it is written."""

    code = "sandbox.invalid"

    def __init__(self, profile: str, key: str, message: str) -> None:
        super().__init__(f"The sandbox profile {profile}: {key}: {message}")
        self.profile = profile
        self.key = key
        self.message = message


@dataclass(frozen=True, slots=True)
class Shown:
    """A file or folder of the host that is seen inside."""

    source: Path
    place: Path
    writable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Profile:
    """What is the same before and after profiles are merged."""

    routes: tuple[str, ...] = ()
    env: Mapping[str, Any] = field(default_factory=dict)
    """Texts, or references to where they are (core.secret_references)."""
    memory: int | None = None
    """Bytes: of all its processes together where the system lets that be bounded, otherwise of each."""
    pids: int | None = None
    allowance: tuple[Any, ...] = ()
    """Limits as plain data, for whoever keeps them. Only its own; what its lineage says holds where it says nothing."""
    pool: tuple[Any, ...] = ()
    image: str | None = None
    """Of a container; `container.HOST_IMAGE`: the host's programs."""
    flags: tuple[str, ...] = ()
    """Of a container; once merged, as `container_options.flags` gives them."""
    engine: Engine | None = None
    """None: whichever is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenProfile(_Profile):
    """A profile as it is written."""

    kind: Kind | None = None
    extends: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    """As `mount` reads them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxProfile(_Profile):
    """A profile with all that it extends."""

    name: str
    kind: Kind
    lineage: tuple[str, ...]
    """It and those that it extends, the most specific first."""
    mounts: tuple[Shown, ...] = ()

    @property
    def programs_of_host(self) -> bool:
        """Whether the programs are the host's own."""
        return self.kind != "container" or self.image == container.HOST_IMAGE


def merged(written: Mapping[str, WrittenProfile]) -> dict[str, SandboxProfile]:
    """Return all profiles that there are: those that are written, and the built-in ones.

    A built-in one may be written too, and so be given routes and limits; it keeps its kind.

    Raises:
        ProfileProblem: one cannot be.
    """
    every: dict[str, WrittenProfile] = {**{name: WrittenProfile() for name in _BUILT_IN}, **written}
    for name, profile in every.items():
        _check(name, profile, every)
    return {name: _merge(name, _order(name, every), every) for name in every}


def named(name: str, known: Mapping[str, SandboxProfile]) -> SandboxProfile | None:
    """Return the profile of this name, or of several names joined by ``+``; None if there is no such profile.

    Raises:
        ProfileProblem: the profiles do not go together.
    """
    if JOINS not in name or name in known:
        return known.get(name)
    parts = [known.get(each) for each in dict.fromkeys(name.split(JOINS))]
    found = [each for each in parts if each is not None]
    if len(found) < len(parts) or len(found) > MOST_JOINED:
        return None
    return _joined(name, found) if len(found) > 1 else found[0]


def _joined(name: str, parts: Sequence[SandboxProfile]) -> SandboxProfile:
    """Return what several profiles are together: what they allow adds up, and of what conflicts the strictest holds.

    Raises:
        ProfileProblem: two contradict each other, and neither is stricter.
    """
    if any(part.kind == "none" for part in parts):
        raise ProfileProblem(name, "kind", "none isolates nothing, so it cannot be joined with others. Leave it out.")
    mounts: dict[Path, Shown] = {}
    for shown in (shown for part in parts for shown in part.mounts):
        before = mounts.get(shown.place, shown)
        if before.source != shown.source:
            raise ProfileProblem(
                name, "mounts", f"{shown.place} is {before.source} in one and {shown.source} in another."
            )
        writable = before.writable and all(_may_write(part, shown) for part in parts)
        mounts[shown.place] = replace(shown, writable=shown.writable and writable)
    _check_read_only(name, parts, mounts)
    env: dict[str, Any] = {}
    for variable, value in ((variable, value) for part in parts for variable, value in part.env.items()):
        if env.setdefault(variable, value) != value:
            raise ProfileProblem(name, "env", f"{variable} has two values. Leave one of the profiles out.")
    return _fitting(
        SandboxProfile(
            name=name,
            kind="container" if any(part.kind == "container" for part in parts) else "bubblewrap",
            # All allowances of these govern together (`budget.limits.precedence`), and all pools hold.
            lineage=(name, *dict.fromkeys(each for part in reversed(parts) for each in part.lineage)),
            routes=tuple(dict.fromkeys(route for part in parts for route in part.routes)),
            mounts=tuple(mounts[place] for place in sorted(mounts)),
            env=env,
            memory=min((part.memory for part in parts if part.memory is not None), default=None),
            pids=min((part.pids for part in parts if part.pids is not None), default=None),
            image=_same(name, "image", [part.image for part in parts]),
            flags=tuple(flag for part in parts for flag in part.flags),
            engine=_same(name, "engine", [part.engine for part in parts]),
        )
    )


def _may_write(part: SandboxProfile, shown: Shown) -> bool:
    """Return whether a profile that shows the source of a mount, at whatever place, lets it be written."""
    around = [each for each in part.mounts if shown.source.is_relative_to(each.source)]
    nearest = max((len(each.source.parts) for each in around), default=0)
    return all(each.writable for each in around if len(each.source.parts) == nearest)


def _check_read_only(name: str, parts: Iterable[SandboxProfile], mounts: Mapping[Path, Shown]) -> None:
    """Check that what one profile shows read-only cannot be written through a folder around it of another.

    Raises:
        ProfileProblem: it can.
    """
    kept = [each for part in parts for each in part.mounts if not each.writable]
    for shown in (each for each in mounts.values() if each.writable):
        for inner in (each for each in kept if each.source.is_relative_to(shown.source)):
            place = shown.place / inner.source.relative_to(shown.source)
            over = mounts.get(place)
            if over is None or over.writable:
                raise ProfileProblem(
                    name, "mounts", f"{inner.source} is read-only in one, and could be written at {place} in another."
                )


def _same(name: str, key: str, values: Iterable[_T | None]) -> _T | None:
    found = list(dict.fromkeys(value for value in values if value is not None))
    if len(found) > 1:
        raise ProfileProblem(name, key, f"there are {' and '.join(map(str, found))}. Leave one of the profiles out.")
    return found[0] if found else None


def mount(text: str) -> Shown:
    """Read ``/data``, ``/data:rw``, ``~/models:/models`` or ``/data:/inside:rw``; read-only unless it says rw.

    Raises:
        ValueError: it is none of these.
    """
    parts = text.split(":")
    writable = parts[-1] == "rw"
    if len(parts) > 1 and parts[-1] in {"ro", "rw"}:
        parts.pop()
    if not 1 <= len(parts) <= 2 or not text.isprintable():
        raise ValueError(f"found {text[:80]!r}; wanted is a path like /data, /data:rw or /data:/inside:rw.")
    source = parts[0]
    if source.startswith("~/"):
        source = os.path.expanduser(source)
    place = parts[1] if len(parts) == 2 else source
    for path in (source, place):
        if not path.startswith("/") or ".." in Path(path).parts:
            raise ValueError(f"found {path[:80]!r} in {text[:80]!r}; expected an absolute path, without `..`.")
    shown = Shown(Path(os.path.normpath(source)), Path(os.path.normpath(place)), writable)
    kept = next((folder for folder in _KEPT if shown.place.is_relative_to(folder)), None)
    if shown.place == Path("/") or kept is not None:
        raise ValueError(
            f"{shown.place} cannot be put there: {kept or 'the root'} is the system's inside. Name another place."
        )
    return shown


def unknown(name: str, profiles: Iterable[str]) -> str:
    """Return what to say of a profile that there is not."""
    known = sorted(profiles)
    return f"No sandbox is called {name[:60]!r}; there are {', '.join(known)}.{suggestion(name, known)}"


def _check(name: str, profile: WrittenProfile, every: Mapping[str, WrittenProfile]) -> None:
    if not NAME.fullmatch(name):
        raise ProfileProblem(
            name[:60], "name", "a lower-case letter, then lower-case letters, digits and dashes; at most 32."
        )
    if name in _BUILT_IN and profile.kind not in {None, name}:
        raise ProfileProblem(
            name, "kind", f"found {profile.kind}; the built-in profile {name} is of the kind {name}. Take another name."
        )
    if name in _BUILT_IN and profile.extends:
        raise ProfileProblem(name, "extends", "a built-in profile extends no other. Take another name.")
    for other in profile.extends:
        if other not in every:
            raise ProfileProblem(name, "extends", unknown(other, every))
    for route in profile.routes:
        if not _ROUTE.fullmatch(route):
            raise ProfileProblem(
                name,
                "routes",
                f"found {route[:80]!r}; expected a host, like docs.python.org, git.example.com:8443 or *.example.org.",
            )
    for text in profile.mounts:
        try:
            mount(text)
        except ValueError as error:
            raise ProfileProblem(name, "mounts", str(error)) from None
    for key, check in (
        ("flags", lambda: container_options.flags(profile.flags)),
        ("image", lambda: _image(profile.image)),
    ):
        try:
            check()
        except ValueError as error:
            raise ProfileProblem(name, key, str(error)) from None
    for variable in profile.env:
        if RESERVED.fullmatch(variable):
            raise ProfileProblem(name, "env", f"{variable} is Muster's to set. Leave it out.")
        if not VARIABLE.fullmatch(variable):
            raise ProfileProblem(name, "env", f"found {variable[:60]!r}; expected the name of an environment variable.")
    for key, found, least in (("memory", profile.memory, LEAST_MEMORY), ("pids", profile.pids, LEAST_PIDS)):
        if found is not None and found < least:
            raise ProfileProblem(name, key, f"found {found}; from {least} on are allowed: with less no runtime starts.")


def _image(name: str | None) -> None:
    if name is not None:
        container.check_image(name)


def _order(name: str, every: Mapping[str, WrittenProfile]) -> tuple[str, ...]:
    """Return the profiles that one is merged from, the least specific first."""
    order: list[str] = []

    def visit(at: str, way: tuple[str, ...]) -> None:
        if at in way:
            circle = " -> ".join((*way[way.index(at) :], at))
            raise ProfileProblem(name, "extends", f"goes round in a circle: {circle}. Leave one of these out.")
        if at in order:
            return
        for other in every[at].extends:
            visit(other, (*way, at))
        order.append(at)

    visit(name, ())
    return tuple(order)


def _merge(name: str, order: tuple[str, ...], every: Mapping[str, WrittenProfile]) -> SandboxProfile:
    parts = [every[each] for each in order]
    kinds = [_BUILT_IN.get(each, every[each].kind) for each in order]
    kind: Kind = next((found for found in reversed(kinds) if found is not None), DEFAULT)
    mounts = {shown.place: shown for part in parts for shown in map(mount, part.mounts)}
    own = every[name]
    profile = SandboxProfile(
        name=name,
        kind=kind,
        lineage=order[::-1],
        routes=tuple(dict.fromkeys(route for part in parts for route in part.routes)),
        # An outer place first, or it would lie over the inner one.
        mounts=tuple(mounts[place] for place in sorted(mounts)),
        env={variable: value for part in parts for variable, value in part.env.items()},
        memory=_last(part.memory for part in parts),
        pids=_last(part.pids for part in parts),
        allowance=own.allowance,
        pool=own.pool,
        image=_last(part.image for part in parts),
        flags=tuple(flag for part in parts for flag in container_options.flags(part.flags)),
        engine=_last(part.engine for part in parts),
    )
    return _fitting(profile)


def _fitting(profile: SandboxProfile) -> SandboxProfile:
    """Return what does not go with its kind is refused, since it would only seem to hold."""
    if profile.kind != "container":
        for key in ("image", "flags", "engine"):
            if getattr(profile, key):
                raise ProfileProblem(profile.name, key, f"goes with kind: container alone; this is {profile.kind}.")
    elif profile.image is None:
        raise ProfileProblem(
            profile.name,
            "image",
            "a container needs one: an image on this machine, with the agents' programs and python3 in it; or "
            f"{container.HOST_IMAGE}, for this machine's own programs.",
        )
    elif profile.image == container.HOST_IMAGE and profile.engine == "docker":
        raise ProfileProblem(
            profile.name, "engine", f"image: {container.HOST_IMAGE} needs podman; name an image for docker."
        )
    if profile.kind == "none":
        for key in ("routes", "mounts", "memory", "pids"):
            if getattr(profile, key):
                raise ProfileProblem(profile.name, key, "nothing holds an agent of the kind none to it. Leave it out.")
    return profile


def _last(values: Iterable[Any]) -> Any:
    return next((value for value in reversed(list(values)) if value is not None), None)


_BUILT_IN: Final[Mapping[str, Kind]] = {"bubblewrap": "bubblewrap", "none": "none"}
#: Those that are there without being written down.
BUILT_IN: Final[Mapping[str, SandboxProfile]] = merged({})
