#!/usr/bin/env bash
# The students that ship beside the micro SAM3, and what they keep of it (docs/explanation/experiments.md): about 40 minutes.
# Each is trained with a whole token table and then pruned to the tokens of its phrases. INSTALL=1 puts them into the package.
PHRASES=${PHRASES:-60000}
source "$(dirname "$0")/micro_common.sh"
prepare
make_student() { # FOLDER PRESET WIDTH RANK EPOCHS RATE
  local run="$OUT/$1"
  EPOCHS=$5 student "$run" 0 <<< "preset = '$2'
width = $3
rank = $4
lr = $6
ema_decay = 0.999
validation_fraction = 0.02
validation_phrases = 1000
losses = { consistency = 0.3, keys = 0.0, values = 0.0, scoring = 0.0 }"
  "$LITETEXT" compress "$run/student.safetensors" "$OUT/phrases.txt" -o "$run-pruned/student.safetensors" --prune
  judge "$run-pruned"
  [ -z "${INSTALL:-}" ] || .venv/bin/python runs/halve.py "$run-pruned/student.safetensors" "src/litetext/weights/$1/student.safetensors"
}
later make_student micro-student micro-s 96 32 24 5e-3
later make_student micro-student-xs micro-xs 64 12 30 6e-3
finish
