"""Sandbox profiles that are used together: what they allow adds up, and the strictest of what conflicts holds."""

from __future__ import annotations

import pytest

from fleet.sandbox.profiles import ProfileProblem, WrittenProfile, merged, named

GIB = 2**30
KNOWN = merged(
    {
        "web": WrittenProfile(routes=("docs.python.org",), mounts=("/data:rw",), env={"A": "1"}, memory=4 * GIB),
        "data": WrittenProfile(mounts=("/data", "/models"), env={"B": "2"}, memory=2 * GIB, pids=100),
        "box": WrittenProfile(kind="container", image="host"),
        "other": WrittenProfile(kind="container", image="python:3.12"),
        "contrary": WrittenProfile(env={"A": "9"}),
        "elsewhere": WrittenProfile(mounts=("/tmp/x:/data",)),
        "inner": WrittenProfile(mounts=("/data/out:rw",)),
        "outer": WrittenProfile(mounts=("/data/out",)),
        "renamed": WrittenProfile(mounts=("/data:/work:rw",)),
        "hidden": WrittenProfile(mounts=("/data/keys:/keys",)),
        "open": WrittenProfile(mounts=("/data", "/data/out:rw")),
        "deep": WrittenProfile(extends=("data",)),
    }
)


@pytest.mark.parametrize("name", ["web+data", "data+web"], ids=["in one order", "in the other"])
def test_the_strictest_of_what_conflicts_holds_in_any_order(name: str) -> None:
    joined = named(name, KNOWN)
    assert joined is not None
    assert (joined.name, joined.kind, joined.routes) == (name, "bubblewrap", ("docs.python.org",))
    assert {str(each.place): each.writable for each in joined.mounts} == {"/data": False, "/models": False}
    assert joined.env == {"A": "1", "B": "2"}
    assert (joined.memory, joined.pids) == (2 * GIB, 100)
    # The limits of both are found, and requests are counted under the name of both.
    assert joined.lineage[0] == name
    assert {"web", "data"} < set(joined.lineage)


def test_the_limits_of_all_are_found() -> None:
    joined = named("web+deep", KNOWN)
    assert joined is not None
    assert joined.lineage == ("web+deep", "deep", "data", "web")


def test_a_container_goes_before_bubblewrap() -> None:
    joined = named("box+data", KNOWN)
    assert joined is not None
    assert (joined.kind, joined.image) == ("container", "host")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("web+none", "kind"),
        ("box+other", "image"),
        ("web+contrary", "env"),
        ("web+elsewhere", "mounts"),
        ("web+hidden", "mounts"),
        ("hidden+renamed", "mounts"),
    ],
)
def test_what_contradicts_without_being_stricter_is_refused(name: str, key: str) -> None:
    with pytest.raises(ProfileProblem) as refused:
        named(name, KNOWN)
    assert refused.value.key == key


@pytest.mark.parametrize("name", ["web+nowhere", "+", "web+", "+".join(["web"] * 2 + ["nowhere"])])
def test_one_that_there_is_not_makes_all_of_them_unknown(name: str) -> None:
    assert named(name, KNOWN) is None


def test_the_same_one_twice_is_itself() -> None:
    assert named("web+web", KNOWN) == KNOWN["web"]


@pytest.mark.parametrize(
    ("name", "writable"),
    [
        ("data+inner", {"/data": False, "/data/out": False, "/models": False}),
        ("inner+data", {"/data": False, "/data/out": False, "/models": False}),
        ("renamed+data", {"/data": False, "/models": False, "/work": False}),
        ("web+outer", {"/data": True, "/data/out": False}),
        ("open+inner", {"/data": False, "/data/out": True}),
    ],
)
def test_what_one_shows_read_only_is_not_written_through_another(name: str, writable: dict[str, bool]) -> None:
    joined = named(name, KNOWN)
    assert joined is not None
    assert {str(each.place): each.writable for each in joined.mounts} == writable
