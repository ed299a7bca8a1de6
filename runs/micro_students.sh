#!/usr/bin/env bash
# The students that ship beside the micro SAM3, and the proof of what they keep: issue's 98 % with 88 % fewer parameters.
source "$(dirname "$0")/micro_common.sh"
prepare
EPOCHS=${STUDENT_EPOCHS:-40}
for preset in micro-s micro-xs; do
  student "$OUT/$preset" 0 <<< "student = { preset = '$preset' }"
  judge "$OUT/$preset"
done
