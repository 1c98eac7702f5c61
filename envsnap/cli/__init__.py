"""The command line: one file per command, each of which parses, calls one workflow and prints what `report` makes of it."""
