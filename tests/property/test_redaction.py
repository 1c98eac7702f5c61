"""A planted secret never gets through redaction, nor into a lock."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from envsnap import redaction
from envsnap.lockfile import Packed, Unfound, assemble, dumps
from tests import samples

letters = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", min_size=36, max_size=48)
tokens = st.one_of(*(letters.map(prefix.__add__) for prefix in ("ghp_", "gho_", "github_pat_", "glpat-", "hf_", "nvapi-", "wandb_v1_")))
passwords = st.from_regex(r"[A-Za-z0-9!$&*+,;=_~.-]{8,30}", fullmatch=True)
hosts = st.sampled_from(["git.example.com", "packages.example.com:8443", "[2001:db8::1]:80", "localhost"])
schemes = st.sampled_from(["https", "http", "git+https", "ftp"])
prose = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(schemes, passwords, passwords, hosts, passwords)
def test_an_address_loses_user_password_and_query(scheme: str, user: str, password: str, host: str, query: str) -> None:
    assume(user not in host and password not in host and query not in host)
    left = redaction.url(f"{scheme}://{user}:{password}@{host}/simple?token={query}#{query}")
    assert left == f"{scheme}://{host}/simple"


@given(prose, tokens, prose)
def test_a_token_in_free_text_is_gone(before: str, token: str, after: str) -> None:
    told = redaction.text(f"{before} {token} {after}")
    assert token not in told
    assert redaction.REDACTED in told


@given(prose, schemes, passwords, hosts)
def test_credentials_of_an_address_in_free_text_are_gone(before: str, scheme: str, password: str, host: str) -> None:
    secret = f"p4ss{password}"
    assume(secret not in before)
    assert secret not in redaction.text(f"{before} {scheme}://user:{secret}@{host}/x failed")


@given(tokens, passwords, hosts)
def test_no_planted_secret_reaches_a_lock(token: str, password: str, host: str) -> None:
    secret = f"p4ss{password}"
    address = f"https://user:{secret}@{host}/x.git"
    installs = (
        samples.distribution("a", "1", direct_url={"url": address, "vcs_info": {"vcs": "git", "commit_id": samples.COMMIT}}),
        samples.distribution("b", "1", direct_url={"url": f"{address}?token={token}", "archive_info": {}}),
        samples.distribution("c", "1", direct_url={"url": f"https://{token}@{host}/c", "dir_info": {}}),
        samples.distribution("d", "1", direct_url={"url": address, "vcs_info": {"vcs": "git", "commit_id": token}}),
    )
    lock = assemble(
        name="x",
        facts=samples.facts(distributions=installs, env={"NCCL_X": address, "HF_TOKEN": token, "OMP_Y": token, "LANG": "C"}),
        gpu=samples.gpu_probe(),
        wheels={"d": Unfound(reason="not found", everyone_asked=True)},
        source=None,
        source_root=None,
        packed={"a": Packed(file="a-1-py3-none-any.whl", blob=samples.digest("a"), files=samples.digest("b"))},
        reference=None,
        capture=samples.capture(),
    )
    written = dumps(lock).decode()
    assert token not in written
    assert secret not in written
