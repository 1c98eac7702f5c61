"""envsnap: a GPU training environment that works, made a fact."""

__version__ = "0.1.0"
