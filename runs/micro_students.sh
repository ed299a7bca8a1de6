#!/usr/bin/env bash
# Students of the presets that ship beside the micro SAM3, and what they keep of it (docs/explanation/experiments.md): about 25 minutes.
# INSTALL=1 puts them into the package.
source "$(dirname "$0")/micro_common.sh"
prepare
make_student() { # PRESET EPOCHS RATE FOLDER
  EPOCHS=$2 trial "$OUT/$1" 0 <<< "preset = '$1'
lr = $3
losses = { consistency = 0.3 }"
  [ -z "${INSTALL:-}" ] || .venv/bin/python runs/halve.py "$OUT/$1/student.safetensors" "src/litetext/weights/$4/student.safetensors"
}
later make_student micro-s 80 6e-3 micro-student
later make_student micro-xs 100 1e-2 micro-student-xs
finish
