from __future__ import annotations

from pathlib import Path

import pytest

from fleet.sandbox.profiles import BUILT_IN, ProfileProblem, Shown, WrittenProfile, merged, mount


def test_profiles_that_are_not_written_are_there_and_reach_nothing() -> None:
    assert {name: (profile.kind, profile.routes, profile.lineage) for name, profile in BUILT_IN.items()} == {
        "bubblewrap": ("bubblewrap", (), ("bubblewrap",)),
        "none": ("none", (), ("none",)),
    }


def test_what_is_extended_is_merged_in_its_order_and_the_profile_itself_goes_before_all() -> None:
    found = merged(
        {
            "web": WrittenProfile(
                routes=("docs.python.org", "example.org"), env={"A": "web", "B": "web"}, memory=2**30, mounts=("/data",)
            ),
            "code": WrittenProfile(routes=("github.com:22", "example.org"), env={"B": "code", "C": "code"}, pids=100),
            "both": WrittenProfile(
                extends=("web", "code"), env={"C": "both"}, memory=2**31, mounts=("/data:rw", "/data/in")
            ),
        }
    )["both"]
    assert found.kind == "bubblewrap"
    assert found.lineage == ("both", "code", "web")
    assert found.routes == ("docs.python.org", "example.org", "github.com:22")
    assert found.env == {"A": "web", "B": "code", "C": "both"}
    assert (found.memory, found.pids) == (2**31, 100)
    assert found.mounts == (
        Shown(Path("/data"), Path("/data"), writable=True),
        Shown(Path("/data/in"), Path("/data/in")),
    )


def test_a_profile_that_two_ways_lead_to_is_merged_once_and_before_both() -> None:
    found = merged(
        {
            "base": WrittenProfile(env={"A": "base"}),
            "left": WrittenProfile(extends=("base",), env={"A": "left"}),
            "right": WrittenProfile(extends=("base",)),
            "top": WrittenProfile(extends=("left", "right")),
        }
    )["top"]
    assert found.lineage == ("top", "right", "left", "base")
    assert found.env == {"A": "left"}


def test_limits_stay_with_the_profile_that_says_them() -> None:
    found = merged({"base": WrittenProfile(allowance=("2M",), pool=("9M",)), "top": WrittenProfile(extends=("base",))})
    assert (found["base"].allowance, found["base"].pool) == (("2M",), ("9M",))
    assert (found["top"].allowance, found["top"].pool) == ((), ())


def test_a_built_in_profile_can_be_given_routes_and_keeps_its_kind() -> None:
    found = merged(
        {"bubblewrap": WrittenProfile(routes=("example.org",)), "more": WrittenProfile(extends=("bubblewrap",))}
    )
    assert found["bubblewrap"].routes == found["more"].routes == ("example.org",)
    with pytest.raises(ProfileProblem, match="Take another name"):
        merged({"bubblewrap": WrittenProfile(kind="none")})


@pytest.mark.parametrize(
    ("written", "key", "words"),
    [
        ({"a": WrittenProfile(extends=("b",)), "b": WrittenProfile(extends=("a",))}, "extends", "circle: a -> b -> a"),
        ({"a": WrittenProfile(extends=("a",))}, "extends", "circle: a -> a"),
        ({"a": WrittenProfile(extends=("bublewrap",))}, "extends", "Did you mean.*bubblewrap"),
        ({"A": WrittenProfile()}, "name", "lower-case"),
        ({"a/../b": WrittenProfile()}, "name", "lower-case"),
        ({"--help": WrittenProfile()}, "name", "lower-case"),
        ({"a": WrittenProfile(routes=("http://x.org/",))}, "routes", "expected a host"),
        ({"a": WrittenProfile(routes=("x.org; rm",))}, "routes", "expected a host"),
        ({"a": WrittenProfile(memory=1)}, "memory", "no runtime starts"),
        ({"a": WrittenProfile(env={"A B": "x"})}, "env", "environment variable"),
        ({"a": WrittenProfile(env={"LD_PRELOAD": "x"})}, "env", "Muster's to set"),
        ({"a": WrittenProfile(image="debian")}, "image", "kind: container alone"),
        ({"a": WrittenProfile(flags=("--cpus=2",))}, "flags", "kind: container alone"),
        ({"a": WrittenProfile(engine="podman")}, "engine", "kind: container alone"),
        (
            {"a": WrittenProfile(kind="container")},
            "image",
            "a container needs one.*host, for this machine's own programs",
        ),
        ({"a": WrittenProfile(kind="container", image="--privileged")}, "image", "the name of an image"),
        ({"a": WrittenProfile(kind="container", image="host", engine="docker")}, "engine", "needs podman"),
        (
            {"a": WrittenProfile(kind="container", image="x", flags=("--privileged",))},
            "flags",
            "leave the isolation alone",
        ),
        ({"a": WrittenProfile(kind="none", routes=("x.org",))}, "routes", "nothing holds"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(written: dict[str, WrittenProfile], key: str, words: str) -> None:
    with pytest.raises(ProfileProblem, match=words) as told:
        merged(written)
    assert told.value.key == key
    assert told.value.profile in written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data", Shown(Path("/data"), Path("/data"))),
        ("/data/", Shown(Path("/data"), Path("/data"))),
        ("/data:rw", Shown(Path("/data"), Path("/data"), writable=True)),
        ("/data:/in", Shown(Path("/data"), Path("/in"))),
        ("/data:/in:rw", Shown(Path("/data"), Path("/in"), writable=True)),
        ("/data:/in:ro", Shown(Path("/data"), Path("/in"))),
    ],
)
def test_a_mount_is_a_path_and_where_it_is_seen(text: str, shown: Shown) -> None:
    assert mount(text) == shown


@pytest.mark.parametrize(
    "text",
    ["", "data", "/a:in", "/a:/in:wr", "/a:/b:/c", "/a/../etc", "/a:/etc/x", "/a:/", "/a:/usr", "/a:/proc/1", "/a\n"],
)
def test_a_mount_that_is_none_or_hides_the_system_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"found|cannot be put there"):
        mount(text)
