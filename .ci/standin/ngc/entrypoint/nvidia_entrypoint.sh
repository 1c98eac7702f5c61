#!/bin/bash
# Stands in for NGC's entrypoint: goes through the parts in alphabetical order, prints texts and sources scripts, and runs the command.
shopt -s nullglob
for part in "$(dirname "$0")"/entrypoint.d/*; do
  case $part in
  *.txt) cat "$part" ;;
  *.sh) source "$part" ;;
  esac
done
shopt -u nullglob
if (($#)); then exec "$@"; fi
exec /bin/bash
