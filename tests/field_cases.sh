#!/usr/bin/env bash
# Runs scripts that provoke faults with files and environments from the field, each on its own small input, and keeps what they print:
#   tests/field_cases.sh CASES OUT [NAME ...]     every CASES/*.sh, or those whose names begin so; OUT/NAME.txt has what was seen
# MTFACE names the program that they run, by default .venv/bin/mtface. The kinds of faults are held by `make test`.
set -u
cases=$(realpath "$1") out=$(realpath -m "$2")
shift 2
export MTFACE=${MTFACE:-$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/mtface}
mkdir -p "$out"
for script in "$cases"/*.sh; do
  name=$(basename "$script" .sh)
  if [ $# -gt 0 ] && ! printf '%s\n' "$@" | grep -qx "${name%%_*}"; then continue; fi
  start=$(date +%s)
  WORK=$out/work timeout 900 bash "$script" > "$out/$name.txt" 2>&1 < /dev/null
  echo "$name: exit $?, $(($(date +%s) - start)) s, $(wc -l < "$out/$name.txt") lines, tracebacks: $(grep -c '^Traceback' "$out/$name.txt")"
done
