"""What is guessed of a text's tokens, against what tokenizers made of it."""

# ruff: noqa: RUF001

from __future__ import annotations

import json

import pytest

from egress.usage import text_token_estimate
from tests.egress.usage.streams import document, event, metered

#: Texts, and how many tokens cl100k_base and o200k_base (by bpe-openai 0.1.4) and Anthropic's vocabulary of 2023
#: (by @anthropic-ai/tokenizer 0.0.4) have for them.
MEASURED: dict[str, tuple[str, tuple[int, int, int]]] = {
    "prose": (
        "The agent runs in a sandbox of its own. What it asks of a model goes through one "
        "process, which counts every token that the provider reports and stops the stream "
        "when the budget is used up.",
        (40, 40, 40),
    ),
    "code": (
        "def total(rows):\n    found = 0\n    for row in rows:\n        if row.status == 200:\n"
        "            found += row.tokens.input + row.tokens.output\n    return found\n",
        (39, 39, 41),
    ),
    "numbers": (
        '[{"id": 0, "x": 0.0, "y": 0.0}, {"id": 1, "x": 3.732, "y": 0.1429}, {"id": 2, "x": '
        '7.463, "y": 0.5714}, {"id": 3, "x": 11.195, "y": 1.2857}, {"id": 4, "x": 14.927, '
        '"y": 2.2857}, {"id": 5, "x": 18.659, "y": 3.5714}, {"id": 6, "x": 22.39, "y": 5.1429}'
        ', {"id": 7, "x": 26.122, "y": 7.0}, {"id": 8, "x": 29.854, "y": 9.1429}, {"id": '
        '9, "x": 33.585, "y": 11.5714}, {"id": 10, "x": 37.317, "y": 14.2857}, {"id": 11, '
        '"x": 41.049, "y": 17.2857}]',
        (275, 275, 239),
    ),
    "base64": (
        "OLTmUuRNp/I3DZ4mDicTZVCko6bQf1wMMy+LEiQIP9IrkC+JEegYGPjJnV1dmDGVdQTZDpRd4uj1TueBzHX2NthQmQlaowA"
        "WWmcDb5tUDWuPC+IRJBecPdn3OBfObhGNJkqtbLbdIQ+vlKzTz5LBkCN8sR9dEIzy",
        (114, 108, 115),
    ),
    "hexadecimal": (
        "38b4e652e44da7f2370d9e260e27136550a4a3a6d07f5c0c332f8b1224083fd22b902f8911e81818f8c99d5d5d98319"
        "57504d90e945de2e8f54ee781cc75f636d85099095aa300165a67036f9b540d6b",
        (96, 96, 96),
    ),
    "german": (
        "Die Agenten laufen in einem eigenen Sandkasten. Wird das Budget überschritten, so "
        "wird der Datenstrom größerer Antworten sofort unterbrochen.",
        (36, 29, 42),
    ),
    "chinese": (
        "代理在自己的沙箱中运行。它向模型提出的每个请求都要经过一个进程，该进程计算提供商报告的每个令牌，并在预算用完时停止。",
        (60, 42, 48),
    ),
    "japanese": (
        "エージェントは専用のサンドボックスで動作します。予算を使い切ると、応答は途中で止められます。",
        (47, 37, 46),
    ),
    "korean": (
        "에이전트는 자체 샌드박스에서 실행됩니다. 예산을 모두 사용하면 응답이 중간에 중단됩니다.",
        (42, 31, 46),
    ),
    "russian": (
        "Агент работает в собственной песочнице. Когда бюджет израсходован, ответ прерывается на середине.",
        (44, 25, 47),
    ),
    "hindi": (
        "एजेंट अपने सैंडबॉक्स में चलता है। बजट समाप्त होने पर उत्तर बीच में रोक दिया जाता है।",
        (90, 26, 93),
    ),
    "greek": (
        "Ο πράκτορας εκτελείται στο δικό του περιβάλλον. Όταν ο προϋπολογισμός εξαντληθεί, η απάντηση διακόπτεται.",
        (95, 42, 117),
    ),
    "emoji": (
        "🚀🎉🔥💡🧪🐛🌍📦🛑🤖",
        (29, 21, 26),
    ),
}


def guessed(table: bytes, written: str) -> int:
    return text_token_estimate.tokens(text_token_estimate.weigh(table, written))


@pytest.mark.parametrize("name", MEASURED)
def test_no_text_is_guessed_far_below_what_it_is_nor_far_above(name: str) -> None:
    written, (older, openai, anthropic) = MEASURED[name]
    for table, true in ((text_token_estimate.ANY, max(older, anthropic)), (text_token_estimate.OPENAI, openai)):
        assert 0.7 <= guessed(table, written) / true <= 1.7, (guessed(table, written), true)


@pytest.mark.parametrize("name", MEASURED)
def test_a_stream_that_breaks_off_counts_the_same_however_it_was_cut(name: str) -> None:
    written, _ = MEASURED[name]
    whole = guessed(text_token_estimate.ANY, written)
    for size in (len(written), 20):
        stream = [
            event({"type": "content_block_delta", "delta": {"text": written[place : place + size]}})
            for place in range(0, len(written), size)
        ]
        assert metered("anthropic", *stream, whole=False).reading.written == whole


def test_where_each_token_comes_alone_the_events_are_counted() -> None:
    """A digit between blanks is two tokens, which no rule for characters would guess without doubling all else."""
    digits = [event({"type": "response.output_text.delta", "delta": sign}) for sign in "7 1 4 2 9 0 3 5 ".strip() * 20]
    silent = [event({"type": "response.output_text.delta", "delta": ""})] * 50
    assert metered("responses", *digits, *silent, whole=False).reading.written == len(digits)


def test_a_document_that_is_left_before_its_end_counts_what_it_is_made_of() -> None:
    dense, (*_, true) = MEASURED["base64"]
    content = [{"type": "text", "text": dense * 50}]
    reading = document("anthropic", json.dumps({"content": content}).encode()[:-1]).reading
    assert not reading.reported
    assert reading.written >= 0.7 * 50 * true


def test_what_is_too_long_to_be_looked_at_is_taken_as_dense() -> None:
    reading = document("anthropic", b'{"content": "' + b" " * 3 * 2**20).reading
    assert reading.written >= 2**20
