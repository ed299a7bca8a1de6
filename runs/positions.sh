#!/usr/bin/env bash
# (e) A table of 77 rows that training read by interpolation at 16, served by interpolation, and served by a slice.
# Training by interpolation is stood in for: the 16 rows that were trained are stretched to 77, of which interpolation
# to 16 gives them back, but for what two linear interpolations smooth away (the row "interpolate" shows how much).
source "$(dirname "$0")/micro_common.sh"
prepare
mkdir -p "$OUT/positions"
for seed in $SEEDS; do
  trial "$OUT/context/16-$seed" "$seed" <<< "student = { context = 16 }"
  cp "$OUT/context/16-$seed.json" "$OUT/positions/trained-$seed.json"
  file="$OUT/positions/77-$seed.safetensors"
  test -s "$file" || .venv/bin/python runs/stretch.py "$OUT/context/16-$seed/student.safetensors" "$file"
  for how in interpolate slice; do
    result="$OUT/positions/$how-$seed.json"
    test -s "$result" || "$LITETEXT" evaluate retention --model micro --student "$file" --positions "$how" --context 16 \
      --pairs "$PAIRS" --seed "$PAIRS_SEED" --json > "$result"
  done
done
.venv/bin/python runs/table.py "$OUT/positions"
