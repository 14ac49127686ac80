"""No secret leaves, whole or in parts, and what is no secret stays readable."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.redaction import MASK, SecretMasker, beginning

ALNUM = string.ascii_letters + string.digits
URLSAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"
#: What no part of may show: this many characters of a secret in a row, beyond its public beginning.
TELLING = 6

Secret = tuple[str, str]
"""The public beginning, and what must not show."""


def run_of(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    # A mixed head, since a format may ask for a digit or a capital; every real key of these lengths has both.
    return st.text(alphabet, min_size=least - 3, max_size=most - 3).map(lambda tail: f"aQ7{tail}")


def after(prefix: str, alphabet: str, least: int, most: int) -> st.SearchStrategy[Secret]:
    return run_of(alphabet, least, most).map(lambda secret: (prefix, secret))


def discord(number: int, stamp: str, proof: str) -> Secret:
    return "", f"{base64.b64encode(str(number).encode()).decode().rstrip('=')}.{stamp}.{proof}"


def pem(kind: str, body: str) -> Secret:
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return f"-----BEGIN {kind}-----\n", "\n".join([*lines, f"-----END {kind}-----"])


FORMATS: dict[str, st.SearchStrategy[Secret]] = {
    "anthropic": after("sk-ant-", URLSAFE, 30, 100),
    "openai project": after("sk-proj-", URLSAFE, 40, 150),
    "openai": after("sk-", ALNUM, 40, 48),
    "deepseek": run_of("0123456789abcdef", 32, 32).map(lambda secret: ("sk-", secret.lower())),
    "github": after("ghp_", ALNUM, 36, 36),
    "github fine-grained": after("github_pat_", ALNUM + "_", 60, 82),
    "gitlab": after("glpat-", URLSAFE, 20, 20),
    "slack": after("xoxb-", string.digits + ALNUM + "-", 24, 60),
    "aws": st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16).map(lambda s: ("AKIA", s)),
    "google": after("AIza", URLSAFE, 35, 35),
    "npm": after("npm_", ALNUM, 36, 36),
    "pypi": after("pypi-Ag", URLSAFE, 60, 150),
    "hugging face": after("hf_", ALNUM, 34, 34),
    "matrix": after("syt_Ym90_", string.ascii_letters, 20, 20).map(lambda s: (s[0], f"{s[1]}_1x2y3z")),
    "discord": st.builds(
        discord, st.integers(10**16, 10**20 - 1), st.text(URLSAFE, min_size=6, max_size=6), run_of(URLSAFE, 27, 38)
    ),
    "json web token": st.tuples(run_of(URLSAFE, 15, 40), run_of(URLSAFE, 15, 90), run_of(URLSAFE, 20, 60)).map(
        lambda parts: ("eyJ", f"{parts[0]}.eyJ{parts[1]}.{parts[2]}")
    ),
    "private key": st.builds(
        pem,
        st.sampled_from(["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"]),
        st.text(BASE64, min_size=64, max_size=400),
    ),
    "password in an address": after("postgres://ana:", URLSAFE + "!*@%", 8, 20).map(
        lambda s: (s[0], f"{s[1].rstrip('@')}@")
    ),
    "bearer": after("Authorization: Bearer ", BASE64, 20, 60),
    "assigned": after("api_key = ", URLSAFE, 8, 40),
    "quoted": st.text(string.ascii_letters, min_size=8, max_size=40).map(lambda s: ('"password": "', f'{s}"')),
    "environment": st.text(string.ascii_letters, min_size=8, max_size=40).map(lambda s: ("DB_PASSWORD=", s)),
    "known": st.sampled_from([("", "correct horse battery staple"), ("", "plain-old-word"), ("", "pässword mit ü")]),
}
REDACTION = SecretMasker(known=frozenset({"correct horse battery staple", "plain-old-word", "pässword mit ü", "short"}))


def shows_of(secret: str, text: str) -> str | None:
    """A telling part of `secret` that stands in `text`."""
    hidden = secret.split("-----END")[0].rstrip('"@').replace("\n", "") if "-----END" in secret else secret.rstrip('"@')
    bare = text.replace("\n", "") if "-----END" in secret else text
    parts = (hidden[start : start + TELLING] for start in range(len(hidden) - TELLING + 1))
    return next((part for part in parts if part in bare), None)


# Fillers share no telling part with what the strategies make.
BEFORE = st.sampled_from(["", "Here: ", "这是钥匙：", "x = 1\n\n", "> ", "`", '{"k": "'])  # noqa: RUF001
AFTER = st.sampled_from(["", " ", "\n", " .", "`, $ %", "。", '"}', " 是 ! "])


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_part_of_a_secret_shows_in_any_edit_of_a_growing_message(kind: str, data: st.DataObject) -> None:
    public, secret = data.draw(FORMATS[kind])
    text = data.draw(BEFORE) + public + secret + data.draw(AFTER)
    assert shows_of(secret, REDACTION(text)) is None
    for end in range(len(text) + 1):
        edit = REDACTION.of_growing(text[:end])
        assert shows_of(secret, edit) is None, edit


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(secret=st.one_of(*FORMATS.values()), filler=st.sampled_from(["x", "{}", "aB3/", "a,"]))
def test_a_line_that_never_breaks_shows_no_secret_either(secret: Secret, filler: str) -> None:
    text = filler * 4000 + "," + secret[0] + secret[1] + "," + filler * 4000
    for end in range(len(filler) * 4000, len(filler) * 4000 + 600, 7):
        assert shows_of(secret[1], REDACTION.of_growing(text[:end])) is None
    assert shows_of(secret[1], REDACTION.of_growing(text)) is None


@pytest.mark.parametrize("sign", ["+", "-", " "])
def test_a_key_in_a_diff_is_masked_to_its_end(sign: str) -> None:
    lines = ["-----BEGIN PRIVATE KEY-----", *["MIIEpAIBAAKCAQEA" * 4] * 3, "aB3=", "-----END PRIVATE KEY-----", "after"]
    text = "".join(f"{sign}{line}\n" for line in lines)
    assert REDACTION(text) == f"{sign}[redacted]\n{sign}after\n"


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    once = REDACTION(text)
    assert REDACTION(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "The commit is 598a0015f3c0d6a1b2c3d4e5f60718293a4b5c6d, on main.",
        "id 550e8400-e29b-41d4-a716-446655440000 in the log",
        "![logo](data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4)",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "token_count = 12345",
        "max_tokens: 1234567890",
        "password:",
        "Password: ",
        "Unexpected token: something",
        "the secret: patience and understanding",
        "sk-learn-style-pipelines-with-long-names are fine",
        "sk-learn_v2_pipeline_with_many_words",
        "basic internationalization and basic understanding-of-things",
        "a bearer certificates-and-keys policy",
        "tokens = tokenizer.encode(text)",
        "token = request.headers.get('X-Token1')",
        "token = tokens[0]",
        "password = os.environ['DB_PASSWORD']",
        "password=self.password, token=user_token",
        "secret_file: /etc/muster/secrets/token1",
        "token_file=~/.config/muster/token1",
        "TOKEN=$OTHER_TOKEN1 PASSWORD=${DB_PASSWORD_1}",
        "TOKENIZERS_PARALLELISM=disabled tokenizer: bert-base-uncased-v2",
        "TOKEN_URL=https://auth.example.org/oauth2/token",
        "https://example.org:8443/a/b?x=1#y and ssh://git@host:22/x.git",
        "see http://localhost:8080, or mail ana@example.org",
        "/home/ana/projects/muster/core/redaction.py:17: in __call__",
        "The file begins with `-----BEGIN PRIVATE KEY-----` and then comes the key.",
        "My module Notification_handlers_v2.encode.something_long_enough_to_matter_here",
        "xoxo-and-many-hugs-and-kisses",
        "npm_config_registry and hf_hub_download and ghp_ alone",
    ],
)
def test_ordinary_prose_and_code_stay_as_they_are(text: str) -> None:
    assert REDACTION(text) == text


@pytest.mark.parametrize("secret", ["correct horse battery staple", "aQ7/Zk93hW/2mmQ/x81=", "Tr0ub4dor&3"])
def test_what_was_cut_off_in_the_middle_of_a_known_value_does_not_show(secret: str) -> None:
    redact = SecretMasker(known=frozenset({secret}))
    for length in range(min(8, len(secret) // 2), len(secret)):
        assert redact(f"with {secret[:length]}… and more") == f"with {MASK}… and more"
    assert redact(f"with {secret[:9]} and more") == f"with {secret[:9]} and more"


def test_of_a_long_text_no_part_of_a_secret_is_left_where_it_is_cut() -> None:
    redact = SecretMasker(known=frozenset({"correct horse battery staple"}))
    for most in range(10, 40):
        assert "correct" not in beginning("so it is correct horse battery staple, and so on", redact, most)
    assert beginning("all of it", redact, 9) == "all of it"


def test_a_short_known_value_hides_no_words() -> None:
    assert REDACTION("a short walk") == "a short walk"


def test_known_values_that_overlap_are_both_hidden_whole() -> None:
    assert SecretMasker(known=frozenset({"abcdefgh1234", "1234ijklmnop"}))("<abcdefgh1234ijklmnop>") == f"<{MASK}>"


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("echo -----BEGIN PRIVATE KEY-----", ""),
        ("echo '-----BEGIN PRIVATE KEY-----'; ", "; echo '-----END PRIVATE KEY-----'"),
        ("echo -----BEGIN PRIVATE KEY-----AAAAAAAAAAAAAAAAAAAA\n", ""),
        ("curl http://x:", "@host"),
        ("curl http://x:aaaa1234;", ";@host"),
        ("token=", ""),
        ("token=abcd1234;", ""),
        ('echo "token=\\"abcd1234;', '"'),
        ("PASSWORD=abcdefgh|", ""),
        ("echo bearer abcdefgh12345678;", ""),
    ],
)
@pytest.mark.parametrize("command", ["$(rm${IFS}-rf${IFS}x)", "reboot", "`halt`"])
def test_no_command_hides_behind_the_mask(prefix: str, suffix: str, command: str) -> None:
    if prefix in {"curl http://x:", "token="} and command == "reboot":
        command = f"&{command}"
    word = "rm" if "rm" in command else command.strip("&`")
    assert word in REDACTION(f"{prefix}{command}{suffix}")


@pytest.mark.parametrize(
    "text",
    [
        "An ordinary sentence, with a colon: and a word. ",
        "token = abc then more ",
        "Authorization: Bearer of bad news ",
        "-----BEGIN PRIVATE KEY----- is how it begins. ",
        "这是一个没有空格的句子，里面有冒号：还有更多的字。",  # noqa: RUF001
        "correct horse rider ",
    ],
)
def test_ordinary_text_shows_while_it_grows(text: str) -> None:
    assert REDACTION.of_growing(text) == text


def test_a_line_without_spaces_is_not_held_back_for_ever() -> None:
    assert len(REDACTION.of_growing("x" * 50_000)) > 40_000


@given(st.text(alphabet="abc \n。-", max_size=200), st.integers(0, 200))
def test_what_an_edit_showed_stays(text: str, end: int) -> None:
    assert REDACTION.of_growing(text).startswith(REDACTION.of_growing(text[:end]))


def test_what_the_operator_wants_hidden_is_hidden() -> None:
    redaction = SecretMasker(extra=(r"(?i)project-\w+", r"x*", r"(a)\1{3}"))
    assert redaction("about Project-Apollo and aaaa") == f"about {MASK} and {MASK}"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "a",
            "a-",
            "a.",
            "M",
            "AKIA",
            " ",
            "\n",
            "=",
            "@",
            "token",
            "token-",
            "token=",
            "token ",
            "tokens[",
            "api_key:",
        ),
        *("eyJ-", "eyJ_", "eyJaaaaaaaaaaa.", "sk-", "sk-ant-", "syt_", "syt_a/", "xoxb-", "gh", "MTIz", "PASSWORD="),
        *(
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
            "-----END ",
            "-",
            "http://",
            "://u:",
            "://u:a@",
            "bearer ",
            "\\n",
        ),
        "basic aaaaaaaaaaaaaaaaaa ",
        "-----BEGIN PRIVATE KEY-----\nVersion: a\n",
        "-----BEGIN PRIVATE KEY-----\nAAAAAAAAAAAAAAAA\n1 1 1",
        "correct horse ",
    ],
)
def test_nobody_can_make_redaction_slow(piece: str) -> None:
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    REDACTION(text)
    REDACTION.of_growing(text)
    REDACTION("-----BEGIN PRIVATE KEY-----\n" + text)


@pytest.mark.parametrize("colour", ["\x1b[31m", "\x1b[1;32m", "\x1b[m", "\u241b[0m"])
@pytest.mark.parametrize(
    "secret", ["ghp_" + "a1B2c3D4e5" * 4, "sk-ant-" + "x1" * 20, f"eyJ{'a' * 20}.eyJ{'b' * 20}.{'c' * 20}"]
)
def test_the_colour_of_a_terminal_before_a_secret_hides_it_from_nobody(colour: str, secret: str) -> None:
    assert SecretMasker()(f"{colour}{secret} end") == f"{colour}{MASK} end"


def test_the_way_out_of_an_agent_without_a_sandbox_is_not_shown() -> None:
    told = "The connection to http://127.0.0.1:39867/eAks9sHc5fKJalWkmuoNmacvxuQizH-_/anthropic failed"
    assert SecretMasker()(told) == f"The connection to http://127.0.0.1:39867/{MASK}/anthropic failed"
    assert SecretMasker()(other := "http://127.0.0.1:47801/openai/v1 failed") == other


@pytest.mark.parametrize(
    "said",
    [
        '{"key": "\\u0073k-of-the-account\\/1234"}',
        "https://example.org/?key=%73k-of-the-account%2F1234&x=1",
        '"{\\"key\\": \\"sk-of-the-accoun\\\\u0074/1234\\"}"',
        "日本 sk-of-the-account/1234 日本",
    ],
)
def test_a_known_value_is_masked_as_json_and_urls_have_it_also_while_it_is_written(said: str) -> None:
    redact = SecretMasker(known=frozenset({"sk-of-the-account/1234"}))
    assert MASK in redact(said)
    assert "ccoun" not in redact(said)
    for end in range(len(said)):
        assert "of-the-ac" not in redact.of_growing(said[:end])
    assert "sk-of" not in repr(redact)
