#!/usr/bin/env bash
# (a) Context 8, 16 and 32: what a shorter context costs and saves.
source "$(dirname "$0")/micro_common.sh"
prepare
bases
for seed in $SEEDS; do
  for context in 8 32; do
    later trial "$OUT/context/$context-$seed" "$seed" <<< "context_length = $context"
  done
done
finish
as_base context 16
table context
