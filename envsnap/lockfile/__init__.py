"""Facts -> `EnvLock` -> bytes and back, with the digests that make a lock mean something."""

from envsnap.lockfile.assemble import assemble
from envsnap.lockfile.codec import dumps, loads
from envsnap.lockfile.conda import PackedTree, kept_tree, needs_tree
from envsnap.lockfile.digest import lock_digest, observed_digest, seal
from envsnap.lockfile.packages import Packed, Unfound, WheelAnswer, from_project, in_place, of_base, recognised, to_pack
from envsnap.lockfile.relock import Conflict, Replacement, conflicts, relocked, supported_tags

__all__ = [
    "Conflict",
    "Packed",
    "PackedTree",
    "Replacement",
    "Unfound",
    "WheelAnswer",
    "assemble",
    "conflicts",
    "dumps",
    "from_project",
    "in_place",
    "kept_tree",
    "loads",
    "lock_digest",
    "needs_tree",
    "observed_digest",
    "of_base",
    "recognised",
    "relocked",
    "seal",
    "supported_tags",
    "to_pack",
]
