"""What looks like a secret in what people write, and in what is said."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import redaction
from tests.fakes.secrets import LETTERS, PLANTED


@pytest.mark.parametrize("kind", PLANTED)
def test_each_kind_is_found_with_its_line_and_never_its_value(kind: str) -> None:
    found = redaction.find_secrets(f"first = 1\nkey = '{PLANTED[kind]}'\nlast = 2\n")
    assert (2, kind) in found and {secret.line for secret in found} == {2}
    assert PLANTED[kind] not in "".join(map(str, found))


@pytest.mark.parametrize("kind", PLANTED)
def test_a_line_can_be_taken_at_its_word(kind: str) -> None:
    value = PLANTED[kind]
    assert redaction.find_secrets(f"key = '{value}'  # pragma: allowlist secret\n") == ()
    assert [found.line for found in redaction.find_secrets(f"a = '{value}'  # pragma: allowlist secret\nb = '{value}'\n")][:1] == [2]


NEWER = (
    "sk-proj-" + LETTERS[:60],
    "sk-ant-" + "api03-" + LETTERS[:60],
    "npm" + "_" + LETTERS[:36],
    "AI" + "za" + LETTERS[:35],
    "AS" + "IA" + LETTERS.upper()[:16],
)


@pytest.mark.parametrize("value", NEWER)
def test_kinds_that_the_library_does_not_know(value: str) -> None:
    assert (1, "token") in redaction.find_secrets(f"key = '{value}'")


def test_without_the_searches_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_searches", tuple)  # so that the tests above show what they seem to
    assert not any(redaction.find_secrets(value) for value in PLANTED.values())


TOKEN = PLANTED["GitHub Token"]


def test_lines_are_those_of_an_editor_in_any_alphabet() -> None:
    text = f"# х х … Å\n\x0c\nkey = '{TOKEN}'\nkey = '{TOKEN}'  # х pragma: allowlist secret\n"
    assert {found.line for found in redaction.find_secrets_in(text.encode())} == {3}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-8\r\n"])
def test_text_is_searched_however_it_is_written(encoding: str) -> None:
    encoding, carriage_return, _ = encoding.partition("\r")
    end = carriage_return + "\n"
    found = redaction.find_secrets_in(f"é = 1{end}key = '{TOKEN}'{end}".encode(encoding))
    assert {secret.line for secret in found} == {2}


def test_binary_files_are_searched_for_tokens_and_not_for_marks() -> None:
    assert redaction.find_secrets_in(b"\x80\x04\0" + TOKEN.encode() + b"\0") == ((0, "token"),)
    assert redaction.find_secrets_in(b"\x7fELF\0" + PLANTED["Private Key"].encode() + b"\0") == ()


def test_many_finds_take_no_longer_than_one() -> None:
    lines = 20_000
    text = "\n".join(f"key = 'ghp_{number:036}'" for number in range(lines))
    started = time.monotonic()
    assert len({found.line for found in redaction.find_secrets(text)}) == lines
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", PLANTED)
@given(before=st.text(max_size=40), after=st.sampled_from(["", " ", "'", "\n", "\\n", "&x=1", "%20", "é"]))
def test_no_planted_one_is_left_in_what_is_said(kind: str, before: str, after: str) -> None:
    value = PLANTED[kind]
    secret = {"W&B key": value[16:-1], "password in an address": "s3cr3t-p4ss"}.get(kind, value)
    assert secret not in redaction.text(before + value + after)


@pytest.mark.parametrize(
    "said",
    [
        "WANDB_API_KEY={}",
        "export MY_SECRET='{}'",
        "GET /x?access_token={}&y=1",
        "Authorization: Bearer {}",
        "'authorization': 'Basic {}'",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    ],
)
def test_what_is_called_a_secret_is_left_out_of_what_is_said(said: str) -> None:
    value = "s3cr3t-v4lue"
    told = redaction.text(f"before {said.format(value)} after")
    assert value not in told and redaction.REDACTED in told
    assert told.startswith("before ") and told.endswith(" after")


@pytest.mark.parametrize(
    "said", ["num_tokens=100000000", "TOKENIZERS_PARALLELISM=false", "the token of 0123456789abcdef", "tokenizer=/models/x"]
)
def test_what_is_only_named_alike_is_said(said: str) -> None:
    assert redaction.text(said) == said


@pytest.mark.parametrize(
    "line",
    [
        "url = f'https://{user}:{password}@{host}/simple'",
        "url = 'https://user:password@host/simple'",
        "url = 'https://${USER}:${TOKEN}@host/simple'",
        "url = 'https://user:<token>@host'",
        "git clone ssh://git@github.example.com/x.git",
        "password = os.environ['PASSWORD']",
        "sha256 = '" + "0123456789abcdef" * 4 + "'",
        "api_key = None",
        "token = 'YOUR_TOKEN_HERE'",
        "wandb @ git+https://git.example.com/wandb/wandb@" + "0123456789abcdef0123456789abcdef01234567",
        "wandb.config.key_digest = '" + "0123456789abcdef" * 4 + "'",
    ],
)
def test_code_about_secrets_is_none(line: str) -> None:
    assert redaction.find_secrets(line) == ()


@given(before=st.text(max_size=200), after=st.text(max_size=200), kind=st.sampled_from(["GitHub Token", "AWS Access Key", "Private Key"]))
def test_a_planted_one_is_found_wherever_it_stands(before: str, after: str, kind: str) -> None:
    assert redaction.find_secrets(f"{before} {PLANTED[kind]} {after}") or "allowlist" in before + after
