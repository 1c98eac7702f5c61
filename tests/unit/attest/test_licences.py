from __future__ import annotations

from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from envsnap.attest.licences import of_metadata, of_wheel


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("License-Expression: mit OR apache-2.0", "MIT OR Apache-2.0"),
        ("License-Expression: LicenseRef-Own", "LicenseRef-Own"),
        ("License-Expression: whatever you like", None),
        ("License-Expression: MIT\x00", None),
        ("License: MIT", None),  # free text is a guess
        ("Classifier: License :: OSI Approved :: MIT License", None),
    ],
)
def test_the_expression_and_nothing_else_counts(line: str, found: str | None) -> None:
    assert of_metadata(f"Metadata-Version: 2.4\nName: x\n{line}\n\nLicense-Expression: GPL-3.0-only\n") == found


def test_a_wheel_is_asked_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as wheel:
        wheel.writestr("x/vendored-1.dist-info/METADATA", "License-Expression: GPL-3.0-only\n")
        wheel.writestr("x-1.dist-info/METADATA", "Name: x\nLicense-Expression: MIT\n\ntext")
    assert of_wheel(path) == "MIT"
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        assert of_wheel(path) is None
    assert of_wheel(tmp_path / "missing.whl") is None
    with ZipFile(path, "w") as wheel:
        wheel.writestr("x.py", "")
    assert of_wheel(path) is None
