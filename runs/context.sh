#!/usr/bin/env bash
# (a) Context 8, 16 and 32: what a shorter context costs and saves.
source "$(dirname "$0")/micro_common.sh"
prepare
for context in 8 16 32; do
  for seed in $SEEDS; do
    trial "$OUT/context/$context-$seed" "$seed" <<< "student = { context = $context }"
  done
done
.venv/bin/python runs/table.py "$OUT/context"
