"""Frozen values, one module per stage: facts, lock, base, plan, image, parity. No I/O.

All of them are `msgspec.Struct`s: immutable, keyword-only, and read strictly from untrusted documents with the same
definition that the JSON Schema is generated from (docs/decisions/0001-msgspec.md).
"""
