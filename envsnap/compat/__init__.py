"""May a host run an image? Pure: facts of the host, what an image says of itself, and the catalogue -> reasons."""

from envsnap.compat.host import Disk, Host
from envsnap.compat.image import ImageNeeds, needs_of
from envsnap.compat.judge import judge, judge_driver

__all__ = ["Disk", "Host", "ImageNeeds", "judge", "judge_driver", "needs_of"]
