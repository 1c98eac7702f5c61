#!/bin/bash
# Stands in for NGC's entrypoint: says what the container is, lets the parts of entrypoint.d set variables, runs the command.
shopt -s nullglob
here=$(dirname "$0")
for text in "$here"/entrypoint.d/*.txt; do cat "$text"; done
for part in "$here"/entrypoint.d/*.sh; do source "$part"; done
if (($#)); then exec "$@"; fi
exec bash
