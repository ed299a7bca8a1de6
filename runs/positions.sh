#!/usr/bin/env bash
# (e) A table of 77 rows that training read by interpolation at 16, served by interpolation, and served by a slice.
# Training by interpolation is stood in for: the 16 rows that were trained are stretched to 77, of which interpolation
# to 16 gives them back, but for what two linear interpolations smooth away (the row "interpolate" shows how much).
source "$(dirname "$0")/micro_common.sh"
served() { # HOW SEED
  keep "$OUT/positions/$1-$2.json" "$LITETEXT" evaluate retention --model micro --student "$OUT/positions/77-$2.safetensors" \
    --positions "$1" --context-length 16 --pairs "$PAIRS" --seed "$PAIRS_SEED" --json
}
prepare
bases
finish
as_base positions trained
for seed in $SEEDS; do
  file="$OUT/positions/77-$seed.safetensors"
  test -s "$file" || .venv/bin/python runs/stretch.py "$OUT/base/$seed/student.safetensors" "$file"
  for how in interpolate slice; do later served "$how" "$seed"; done
done
finish
table positions
