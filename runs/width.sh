#!/usr/bin/env bash
# (d) Width of the student against the audit's intrinsic dimension: where does retention break?
source "$(dirname "$0")/micro_common.sh"
prepare
keep "$OUT/audit.json" "$LITETEXT" audit "$OUT/phrases.txt" --text-encoder micro --json
bases
for seed in $SEEDS; do
  for width in 4 8 16 32; do
    rank=$((width < 8 ? width : 8))
    later trial "$OUT/width/$width-$seed" "$seed" <<< "width = $width
rank = $rank"
  done
done
finish
as_base width 64
table width
