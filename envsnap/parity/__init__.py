"""Comparing: two locks (`diff`), a lock and what was found (`judge`), two gradients (`distance`)."""

from envsnap.parity.diff import diff
from envsnap.parity.gradient import distance
from envsnap.parity.judge import judge

__all__ = ["diff", "distance", "judge"]
