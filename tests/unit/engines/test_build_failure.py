"""What a failed build says: the words are those of real pip, apt, collector and BuildKit, with other host names."""

from __future__ import annotations

import pytest

from envsnap.engines.build_failure import build_failure, step_name, telling_lines
from envsnap.engines.buildx import BuildLog
from envsnap.errors import EngineError

PIP = (
    "[builder 3/9] RUN --mount=type=cache,id=envsnap-pip,target=/var/cache/envsnap/pip --mount=type=secret,id=ca     "
    "--mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt     "
    "set -e; [ ! -e /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca;     "
    "export PIP_RESUME_RETRIES=10;     for attempt in 1 2 3; do         status=0; "
    "python3 -m pip --python /opt/envsnap/env/bin/python install             "
    "--no-deps --require-hashes --only-binary :all: --no-input --disable-pip-version-check --retries 10 --timeout 60             "
    "--cache-dir /var/cache/envsnap/pip --compile             --requirement /tmp/requirements.txt || status=$?;         "
    '[ "$status" = 2 ] || break;     done; exit "$status"'
)
CHECK = (
    "[stage-2 9/9] RUN --mount=type=tmpfs,target=/tmp     --mount=type=bind,source=guest,target=/tmp/guest     "
    "HOME=/tmp /opt/envsnap/env/bin/python -B /tmp/guest collect --out /tmp/facts.json --imports --expect /tmp/expected.json"
)

TIMED_OUT = """\
     ━━━━━━━━━━━━━╸                        138.5/366.2 MB 186.0 MB/s eta 0:00:02
ERROR: Exception:
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/pip/_vendor/urllib3/response.py", line 438, in _error_catcher
    yield
TimeoutError: The read operation timed out

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/pip/_vendor/urllib3/response.py", line 443, in _error_catcher
    raise ReadTimeoutError(self._pool, None, "Read timed out.")
pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example.com', port=443): Read timed out."""

NO_NAME = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': Temporary failure in name resolution')': /simple/six/
ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)
ERROR: No matching distribution found for six==1.17.0"""

UNTRUSTED = """\
Could not fetch URL https://index.example.com/six/: There was a problem confirming the ssl certificate: HTTPSConnectionPool(\
host='index.example.com', port=443): Max retries exceeded with url: /six/ (Caused by SSLError(SSLCertVerificationError(1, \
'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)'))) - skipping
ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)
ERROR: No matching distribution found for six==1.17.0"""

OTHER_BYTES = f"""\
WARNING: Retrying (Retry(total=4)) after connection broken by 'ReadTimeoutError("Read timed out.")': /simple/six/
Processing ./six-1.17.0-py2.py3-none-any.whl (from -r /tmp/requirements.txt (line 1))
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update \
the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    six==1.17.0 from https://files.example.com/six-1.17.0-py2.py3-none-any.whl (from -r /tmp/requirements.txt (line 1)):
        Expected sha256 {"0" * 64}
             Got        {"7" * 64}
"""

NO_PACKAGES = """\
Err:1 http://mirror.example.com/debian bookworm InRelease
  Temporary failure resolving 'mirror.example.com'
Reading package lists...
W: Failed to fetch http://mirror.example.com/InRelease  Temporary failure resolving 'mirror.example.com'
W: Some index files failed to download. They have been ignored, or old ones used instead.
Reading package lists...
Package python3-pip is not available, but is referred to by another package.
This may mean that the package is missing, has been obsoleted, or
is only available from another source

E: Package 'python3-pip' has no installation candidate"""

NOT_THE_LOCK = """\
progress 28 79 packages torch
torch is 2.11.0, expected 2.12.1
import cv2: ImportError: libGL.so.1: cannot open shared object file: connection refused
progress 79 79 packages wandb
2 differences"""

FULL = """\
Installing collected packages: torch
ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device
"""

NO_VERSION = (
    "ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)"
    " · ERROR: No matching distribution found for six==1.17.0"
)
NETWORK, CERTIFICATES, DISK = "check the network", "--ca-bundle", "docker system df"


def failed(step: str, output: str, error: str) -> EngineError:
    """The error of a build whose one step says this."""
    log = BuildLog()
    log.read(f"#7 {step}")
    for line in output.splitlines():
        log.read(f"#7 1.234 {line}")
    log.read(f'#7 ERROR: process "/bin/sh -c {step}" did not complete successfully: {error}')
    log.read(f'ERROR: failed to solve: process "/bin/sh -c {step}" did not complete successfully: {error}')
    return build_failure(log, 1)


@pytest.mark.parametrize(
    ("step", "output", "code", "why", "hint"),
    [
        (
            PIP,
            TIMED_OUT,
            2,
            "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='files.example.com', port=443): Read timed out.",
            NETWORK,
        ),
        (
            PIP,
            NO_NAME,
            1,
            NO_VERSION,
            NETWORK,
        ),
        (
            PIP,
            UNTRUSTED,
            1,
            NO_VERSION,
            CERTIFICATES,
        ),
        (
            PIP,
            OTHER_BYTES,
            1,
            (
                "six==1.17.0 from https://files.example.com/six-1.17.0-py2.py3-none-any.whl (from -r /tmp/requirements.txt (line 1)):"
                f" · Expected sha256 {'0' * 64} · Got {'7' * 64}"
            ),
            "--pip-conf",
        ),
        (
            PIP,
            NO_PACKAGES,
            100,
            (
                "W: Failed to fetch http://mirror.example.com/InRelease Temporary failure resolving 'mirror.example.com'"
                " · E: Package 'python3-pip' has no installation candidate"
            ),
            NETWORK,
        ),
        (PIP, FULL, 1, "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", DISK),
        (
            CHECK,
            NOT_THE_LOCK,
            7,
            (
                "torch is 2.11.0, expected 2.12.1 · import cv2: ImportError: libGL.so.1: cannot open shared object file: connection refused"
                " · 2 differences"
            ),
            "the image is not the lock",
        ),
        (CHECK, "Segmentation fault", 139, "Segmentation fault", ""),
        (PIP, "/bin/sh: 1: python3: not found", 127, "/bin/sh: 1: python3: not found", ""),
        (PIP, "one\n\ntwo\nthree\nfour", 3, "two · three · four", ""),
        (PIP, "", 137, "exit code: 137", ""),
    ],
    ids=["timeout", "name", "certificate", "hashes", "apt", "disk", "check", "check crashed", "shell", "no marks", "silence"],
)
def test_a_failed_step_says_why_and_what_helps(step: str, output: str, code: int, why: str, hint: str) -> None:
    error = failed(step, output, f"exit code: {code}")
    assert error.why == why
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)
    assert error.what == f"the build failed at step {step_name(step)}"
    assert "did not complete" not in error.why
    assert all(line[:80] in error.log for line in output.splitlines())


@pytest.mark.parametrize(
    ("vertex", "name"),
    [
        (PIP, "RUN python3 -m pip --python /opt/envsnap/env/bin/python ins…"),
        (CHECK, "RUN HOME=/tmp /opt/envsnap/env/bin/python -B /tmp/guest col…"),
        ("[2/3] RUN echo a; exit 3", "RUN echo a; exit 3"),
        ("[stage-1  2/3] COPY --from=builder /a /b", "COPY --from=builder /a /b"),
        ("[internal] load metadata for example.com/base:1", "load metadata for example.com/base:1"),
        ("", ""),
    ],
)
def test_a_step_has_a_short_name(vertex: str, name: str) -> None:
    assert step_name(vertex) == name
    assert len(name) <= 60


def test_a_long_line_is_cut() -> None:
    assert [len(line) for line in telling_lines(["x" * 1000])] == [200]


@pytest.mark.parametrize(
    ("said", "what", "why", "hint"),
    [
        (
            "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUUN",
            "the build failed",
            "dockerfile parse error on line 2: unknown instruction: RUUN",
            "",
        ),
        (
            "#2 [internal] load metadata for example.com/base:1\n#2 ERROR: example.com/base:1: not found",
            "the build failed at step load metadata for example.com/base:1",
            "example.com/base:1: not found",
            "check the name",
        ),
        (
            "ERROR: failed to solve: dockerfile parse error line 9: Unknown flag: network",
            "the build failed",
            "dockerfile parse error line 9: Unknown flag: network",
            "Docker 23 or later",
        ),
        ("", "the build failed", "the builder ended with code 5", ""),
    ],
)
def test_what_failed_before_any_step_spoke(said: str, what: str, why: str, hint: str) -> None:
    log = BuildLog()
    for line in said.splitlines():
        log.read(line)
    error = build_failure(log, 5)
    assert (error.what, error.why) == (what, why)
    assert hint in error.hint


def test_a_secret_stays_out_of_every_part() -> None:
    token = "ghp_" + "a" * 36
    error = failed(f"[2/2] RUN curl --header {'x' * 20} {token}", f"ERROR: {token}\nERROR: {'x' * 180} {token}", "exit code: 3")
    assert token[:10] not in repr(vars(error))
