"""What the bytes of a request's body do not bound (budget.input_bound.Contents), looked for while it is parsed.

Every object of the input is looked at once, as it is read, with all of its pairs: a member that stands there twice
hides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.apis import Api

_PICTURES: Final = frozenset({"image", "image_url", "input_image", "computer_screenshot"})
#: What is read as pictures, or lies where only the provider has it.
_HIDDEN: Final = frozenset(
    {
        *("document", "file", "input_file", "input_audio", "input_video", "item_reference", "container_upload"),
        *("compaction", "image_generation_call", "file_search_call", "code_interpreter_call"),
    }
)
_ADDING: Final = frozenset(
    {"tools", "tool_choice", "functions", "output_format", "output_config", "response_format", "text", "thinking"}
)


class Look:
    """Counts what is seen in one body."""

    def __init__(self) -> None:
        self.pictures = 0
        self.hidden = False
        self.caches = False
        """A mark of Anthropic's says that something is to be cached."""

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """Look at one object (`json.JSONDecoder.object_pairs_hook`)."""
        for key, value in pairs:
            if key == "type":
                if type(value) is str:
                    if value in _PICTURES:
                        self.pictures += 1
                    elif value in _HIDDEN:
                        self.hidden = True
                    elif value == "reasoning" and not any(name == "encrypted_content" and it for name, it in pairs):
                        # The provider has kept what was thought.
                        self.hidden = True
            elif key == "cache_control":
                self.caches = True
        return dict(pairs)


def adds(values: Mapping[str, Any]) -> bool:
    """Whether the provider writes something of its own around such a request."""
    return any(values.get(key) for key in _ADDING)


def previous_of(api: Api, values: Mapping[str, Any]) -> str | None:
    """The response that a request goes on from, by its id."""
    previous = values.get("previous_response_id") if api == "responses" else None
    return previous if isinstance(previous, str) and previous else None


def refers(api: Api, values: Mapping[str, Any]) -> bool:
    """Whether a request goes on from a conversation that the provider keeps."""
    return api == "responses" and bool(values.get("conversation"))


def compacts(values: Mapping[str, Any]) -> bool:
    """Whether the provider may sum the conversation up before it answers, and so read it twice."""
    managed = values.get("context_management")
    return managed is not None and "compact" in str(managed)
