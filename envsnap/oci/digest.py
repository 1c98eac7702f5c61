"""What a digest looks like (OCI image specification 1.1, descriptor.md): the one algorithm that everybody has."""

from __future__ import annotations

import re

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
