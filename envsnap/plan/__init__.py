"""Lock + catalogue + what is known of the base -> `BuildPlan`: pure, each choice with its sentence."""

from envsnap.plan.bases import candidate_references
from envsnap.plan.make import make_plan

__all__ = ["candidate_references", "make_plan"]
