#!/usr/bin/env bash
# (b) Weight of the permutation consistency: cgF1 on phrases as they are, and with their words in another order.
source "$(dirname "$0")/micro_common.sh"
prepare
for weight in 0.0 0.05 0.1 0.3; do
  for seed in $SEEDS; do
    folder="$OUT/consistency/$weight-$seed"
    student "$folder" "$seed" <<< "losses = { consistency = $weight }"
    test -s "$folder.order.json" || "$LITETEXT" micro evaluate --text "$folder/student.safetensors" \
      --pairs "$PAIRS" --seed "$PAIRS_SEED" --shuffle --json > "$folder.order.json"
  done
done
.venv/bin/python runs/table.py "$OUT/consistency"
