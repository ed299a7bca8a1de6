#!/usr/bin/env bash
# (d) Width of the student against the audit's intrinsic dimension: where does retention break?
source "$(dirname "$0")/micro_common.sh"
prepare
test -s "$OUT/audit.json" || "$LITETEXT" audit "$OUT/phrases.txt" --encoder micro --json > "$OUT/audit.json"
for width in 4 8 16 32 64; do
  for seed in $SEEDS; do
    rank=$((width < 8 ? width : 8))
    trial "$OUT/width/$width-$seed" "$seed" <<< "student = { width = $width, rank = $rank }"
  done
done
.venv/bin/python runs/table.py "$OUT/width"
