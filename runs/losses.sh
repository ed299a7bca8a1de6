#!/usr/bin/env bash
# (c) Losses on the features, on what the decoder makes of them, and on both.
source "$(dirname "$0")/micro_common.sh"
prepare
bases
declare -A KINDS=(
  [features]="losses = { keys = 0.0, values = 0.0, scoring = 0.0 }"
  [decoder]="losses = { mse = 0.0, cosine = 0.0 }"
)
for seed in $SEEDS; do
  for kind in "${!KINDS[@]}"; do
    later trial "$OUT/losses/$kind-$seed" "$seed" <<< "${KINDS[$kind]}"
  done
done
finish
as_base losses both
table losses
