#!/usr/bin/env bash
# (c) Losses on the features, on what the decoder makes of them, and on both.
source "$(dirname "$0")/micro_common.sh"
prepare
declare -A KINDS=(
  [features]="losses = { keys = 0.0, values = 0.0, scoring = 0.0 }"
  [decoder]="losses = { mse = 0.0, cosine = 0.0 }"
  [both]=""
)
for kind in features decoder both; do
  for seed in $SEEDS; do
    trial "$OUT/losses/$kind-$seed" "$seed" <<< "${KINDS[$kind]}"
  done
done
.venv/bin/python runs/table.py "$OUT/losses"
