"""Roles are pages that come with Muster, and that an operator replaces or adds to."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet import roles

LENSES = ("moonshot", "contrarian", "technical", "business", "financial")
PAGE = "---\nmandate: Tries things out.\nlimits: [Mends nothing.]\ncommands: [ps]\n---\nYou are a tester.\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "roles"
    folder.mkdir()
    return folder


def test_every_role_says_its_mandate_its_limits_and_its_commands_on_a_page() -> None:
    shipped = roles.library()
    assert {
        "orchestrator", "enhancer", "coder", "code-review", "security-review", "research", "board", "operations",
    } <= set(shipped.names)  # fmt: skip
    assert shipped.problems == ()
    for role in shipped:
        assert role.mandate.endswith(".")
        assert role.limits
        assert role.commands
        assert role.page.startswith("You ")
        assert role.shipped


def test_a_board_member_looks_through_a_lens_or_through_all() -> None:
    shipped = roles.library()
    board = shipped.get("board")
    assert board is not None
    assert board.lenses == LENSES
    for lens in LENSES:
        role = shipped.get(f"board-{lens}")
        assert role is not None
        assert role.lens == lens
        assert role.mandate == board.mandate
        assert f"Your lens: {lens}" in role.page
        assert f"- {lens}: " in board.page
        assert not any(f"Your lens: {other}" in role.page for other in LENSES if other != lens)


def test_the_operators_own_page_goes_before_and_beside_those_that_are_shipped(own: Path) -> None:
    (own / "coder.md").write_text(PAGE)
    (own / "load-tester.md").write_bytes(PAGE.replace("\n", "\r\n").encode())
    (own / "board-technical.md").write_text(PAGE)
    (own / "notes.txt").write_text("not a role")
    found = roles.library(own)
    assert found.problems == ()
    for name in ("coder", "load-tester", "board-technical"):
        role = found.get(name)
        assert role is not None
        assert (role.mandate, role.limits, role.commands) == ("Tries things out.", ("Mends nothing.",), ("ps",))
        assert role.page == "You are a tester."
        assert not role.shipped
    assert found.get("load-tester").title == "Load tester"  # type: ignore[union-attr]
    assert found.get("enhancer") == roles.library().get("enhancer")
    assert roles.library(own / "not-there").names == roles.library().names


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("coder", "You are a coder.\n", "roles/coder.md:1: begins without a header"),
        ("coder", "---\nmandate: x\n", "roles/coder.md:1: begins without a header"),
        ("coder", "---\nlimits: []\n---\npage\n", "mandate: is missing"),
        (
            "coder",
            "---\nmandate: x\nlimit: []\n---\npage\n",
            "roles/coder.md:3:1: limit: is not known here. Did you mean",
        ),
        ("coder", "---\nmandate: x\ncommands: ['rm -rf /']\n---\npage\n", "roles/coder.md:3:12: commands[0]: "),
        ("coder", "---\nmandate: [x]\n---\npage\n", "roles/coder.md:2:1: mandate: found a list; expected text"),
        ("coder", "---\nmandate: x\n---\n \n", "roles/coder.md:4: found nothing where the page"),
        ("coder", f"---\nmandate: x\n---\n{'a' * 50_001}\n", "found 50001 characters; at most 50000"),
        ("coder", "---\nmandate: x\nlenses: {A B: c}\n---\npage\n", "roles/coder.md:3"),
        ("coder", "---\nmandate: x\nurgency: critical\n---\npage\n", "roles/coder.md:3:1: urgency: found 'critical'"),
        ("coder", "---\n- a\n---\npage\n", "roles/coder.md:"),
        ("coder", "---\nmandate: x\n---\n\x1b[2J\n", "roles/coder.md:4:1: contains the control character"),
        ("My Role", PAGE, "roles/My Role.md: not a name for a role"),
    ],
)
def test_a_page_that_is_not_one_is_told_and_the_shipped_one_holds(own: Path, name: str, text: str, said: str) -> None:
    (own / f"{name}.md").write_text(text)
    found = roles.library(own)
    assert any(said in str(problem) for problem in found.problems), found.problems
    assert found.roles == roles.library().roles


def test_a_link_that_leads_nowhere_hides_nothing(own: Path) -> None:
    (own / "coder.md").symlink_to(own / "nowhere")
    (own / "tester.md").mkdir()
    found = roles.library(own)
    assert found.roles == roles.library().roles
    assert [problem.file for problem in found.problems] == ["roles/tester.md"]


def test_an_agent_hears_its_roles_page_and_then_its_own_prompt() -> None:
    coder = roles.library().get("coder")
    assert coder is not None
    told = roles.instructions(coder, "Prefer small commits.")
    assert told.startswith('<role name="coder">\nYou are a coder.')
    assert told.endswith("</role>\n\nPrefer small commits.")
    assert roles.instructions(None, "Prefer small commits.") == "Prefer small commits."
    assert roles.instructions(None, None) == ""
