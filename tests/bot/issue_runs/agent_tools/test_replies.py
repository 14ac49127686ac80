from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.issue_runs.agent_tools import replies
from bot.issue_runs.agent_tools.forge_names import ForgeNames
from forge.model.references import RepositoryName

NAMES = ForgeNames.of(("https://git.example.org",), RepositoryName("acme", "shop"))


@given(st.text(max_size=200), st.booleans())
def test_no_words_of_others_stand_without_their_mark(text: str, is_code: bool) -> None:
    for line in replies.quoted(text, NAMES, is_code=is_code).splitlines():
        assert line.startswith("> ")


@given(st.lists(st.text(alphabet="ab🙂", max_size=30), min_size=1, max_size=30), st.integers(5, 40))
def test_the_parts_of_an_answer_are_all_of_it(lines: list[str], longest: int) -> None:
    whole = "\n".join(f"> {line}" for line in lines)
    offset, joined = 0, ""
    while True:
        part = replies.page(whole, offset, longest)
        own = part.removeprefix(f"(From offset {offset}.)\n") if offset else part
        if offset and whole[offset - 1] != "\n":
            assert own.startswith("> ")
            own = own.removeprefix("> ")
        own, cut, said = own.rpartition("(Cut here: ") if "(Cut here: " in own else (own, "", "")
        if not cut:
            joined += own
            break
        end = int(said.rpartition("offset ")[2].rstrip(".)"))
        assert end > offset
        joined += own[: end - offset]
        offset = end
    assert joined == whole
