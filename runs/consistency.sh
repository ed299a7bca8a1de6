#!/usr/bin/env bash
# (b) Weight of the permutation consistency: cgF1 on phrases as they are, and with their words in another order.
source "$(dirname "$0")/micro_common.sh"
shuffled() { # FOLDER FILE
  keep "$2" "$LITETEXT" micro evaluate --text-encoder "$1/student.safetensors" --pairs "$PAIRS" --seed "$PAIRS_SEED" --shuffle --json
}
weighed() { # WEIGHT SEED
  local folder="$OUT/consistency/$1-$2"
  student "$folder" "$2" <<< "losses = { consistency = $1 }"
  shuffled "$folder" "$folder.json"
}
prepare
bases
for seed in $SEEDS; do
  for weight in 0.05 0.1 0.3; do later weighed "$weight" "$seed"; done
done
finish
for seed in $SEEDS; do later shuffled "$OUT/base/$seed" "$OUT/consistency/0.0-$seed.json"; done
finish
table consistency
