"""Lock + catalogue + what is known of the base -> `BuildPlan`: pure, each choice with its sentence."""

from envsnap.plan.bases import candidate_references, release_floor
from envsnap.plan.delta import base_of
from envsnap.plan.make import make_plan

__all__ = ["base_of", "candidate_references", "make_plan", "release_floor"]
