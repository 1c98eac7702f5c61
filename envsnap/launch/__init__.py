"""Readings of a `Launch`, a module for each, and what a person types to make one: a value in, arguments or a file's text out."""
