#!/usr/bin/env bash
# SAM3-LiteText S0 (arXiv 2602.12173) at full size, on a box with one GPU: from prompts to a scored student.
#
#   PROMPTS='prompts/*.json' GOLD=annotations IMAGES='metaclip sa1b' runs/paper_s0.sh
#   runs/paper_s0.sh --dry-run           print the commands and run nothing
#   REHEARSAL=1 runs/paper_s0.sh         every step on a CPU: random weights of the true size, 1,000 prompts
#
# Stopped anywhere, the same command goes on: embed, distill and evaluate gold resume by themselves, and a step whose
# output is there is skipped. Needs `litetext[sam3]`, access to facebook/sam3 (gated), Apple's mobileclip_s0.pt, SA-Co
# Gold's annotations and pictures. Nobody has run it on the gated weights yet: the rehearsal is what has been run.
#
# What it costs, for the paper's 404,796 prompts of 7.9 tokens (3.2 M tokens; arXiv 2602.12173):
#
#   step       disk                                        time
#   audit      below 1 MB                                  4 s on 2 CPU cores (320,000 prompts take 3.4 s: docs/explanation/benchmarks.md)
#   teacher    3.4 GB download (860 M parameters x 4)      -
#   embed      1.6 GB (tokens x 256 x 2 bytes)             at most 0.84 h of an RTX 4070: the paper's 134 prompts/s.
#                                                          1.9 PFLOP (302 M weights x 2 x tokens): 3.7 h on 2 cores at 145 GFLOP/s
#   distill    0.17 GB student, 0.42 GB checkpoint (its    20 epochs are 7.7 M phrases. At most 21 h of an RTX 4070, if a
#              weights, their average, moments of AdamW,   training pass costs three forward passes at the paper's 495
#              with the 17,300 token rows in use),         prompts/s: 63 % of SA-Co's phrases have a permutation, which
#              twice that while it is written              is read as well. 495 is of single prompts: batches are faster.
#                                                          21 PFLOP (0.55 GFLOP x 3 x 1.63 x phrases)
#   gold       predictions, by what is found               not derived: nothing here tells SAM3's pairs/s on your GPU. The
#                                                          first subset tells; all are asked twice, teacher and student
#   retention  one page and pictures a subset              again as long as gold
#   convert    0.17 GB                                     seconds
#
# The rehearsal: 1.7 GB; once its stand-ins were written 8 minutes on one thread of a 2-core EPYC that was shared with
# other work (embed 17 prompts/s of 4.0 tokens; measured 2026-11-25).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
LITETEXT=${LITETEXT:-litetext}              # .venv/bin/litetext where it is not on the PATH
PYTHON=${PYTHON:-python3}                   # one that has litetext, for the rehearsal only
OUT=${OUT:-paper-s0}                        # everything is written below it
TEACHER=${TEACHER:-facebook/sam3}           # or sam3.pt: whose text features are learnt
HOST=${HOST:-facebook/sam3}                 # whose decoder the losses ask, and that segments
INIT=${INIT:-mobileclip_s0.pt}              # what the student starts from
PROMPTS=${PROMPTS:-prompts.txt}             # files, folders or globs, as `litetext audit` reads them
GOLD=${GOLD:-gold-annotations}              # the folder of SA-Co Gold's annotations, under the names of the release
IMAGES=${IMAGES:-metaclip-images sa1b-images}  # folders that their file_name starts in, in words
DEVICE=${DEVICE:-auto}
DTYPE=${DTYPE:-bf16}                        # to train and to segment in; features are computed in fp32
BATCH_TOKENS=${BATCH_TOKENS:-32768}         # that the teacher reads at once
EPOCHS=${EPOCHS:-20}
BATCH=${BATCH:-256}
REHEARSAL=${REHEARSAL:-}
REHEARSAL_PROMPTS=${REHEARSAL_PROMPTS:-1000}

dry=
case ${1:-} in
--dry-run) dry=1 ;;
'') ;;
*) echo "usage: [REHEARSAL=1] $0 [--dry-run]" >&2 && exit 2 ;;
esac

# Print a command, and run it unless this is a dry run.
run() {
  printf '+ %s\n' "$*" >&2
  [ -n "$dry" ] || "$@"
}

# keep FILE COMMAND ...: the standard output of a command as a file, unless it is there.
keep() {
  local file=$1
  shift
  if [ -e "$file" ]; then
    echo "= $file" >&2
    return
  fi
  printf '+ %s > %s\n' "$*" "$file" >&2
  [ -n "$dry" ] || { "$@" >"$file.part" && mv "$file.part" "$file"; }
}

[ -n "$dry" ] || mkdir -p "$OUT"

if [ -n "$REHEARSAL" ]; then
  # In place of the gated files: a text tower and a decoder of the true sizes with random weights, a cut vision tower,
  # and six pairs of the micro world as each subset.
  run "$PYTHON" "$here/random_teacher.py" -o "$OUT/stand-ins" --prompts "$REHEARSAL_PROMPTS"
  TEACHER=$OUT/stand-ins/sam3 HOST=$OUT/stand-ins/sam3 INIT=$OUT/stand-ins/mobileclip_s0.pt
  PROMPTS=$OUT/stand-ins/prompts.txt GOLD=$OUT/stand-ins/gold IMAGES=$OUT/stand-ins/gold
  DEVICE=cpu DTYPE=fp32 BATCH_TOKENS=2048 EPOCHS=1 BATCH=64
fi

# Words to lists; litetext expands globs itself.
set -f
prompts=($PROMPTS)
images=()
for folder in $IMAGES; do images+=(--images "$folder"); done
set +f
shopt -s nullglob
held=()
for file in "$GOLD"/gold_*_merged_a_*test.json; do held+=(--hold-out "$file"); done
if [ ${#held[@]} -eq 0 ]; then
  [ -n "$dry" ] || { echo "error: no annotations of SA-Co Gold, $GOLD; give GOLD" >&2 && exit 1; }
  held=(--hold-out "$GOLD/gold_SUBSET_merged_a_release_test.json")
fi

# 1. What the prompts use: context, vocabulary. 16 tokens should cut off about 5 % of the paper's.
keep "$OUT/audit.json" "$LITETEXT" audit "${prompts[@]}" -o "$OUT/audit" --lengths 8,16,32 --json

# 2. The teacher's features, once.
run "$LITETEXT" embed "${prompts[@]}" -o "$OUT/features" --teacher "$TEACHER" --batch-tokens "$BATCH_TOKENS" --device "$DEVICE"

# 3. The student. Several GPUs: torchrun --nproc-per-node N -m litetext distill ... in its place.
run "$LITETEXT" distill "$here/paper_s0.toml" -o "$OUT/s0" --features "$OUT/features" --init "$INIT" --model "$HOST" \
  --epochs "$EPOCHS" --batch-size "$BATCH" --dtype "$DTYPE" --device "$DEVICE" "${held[@]}"
student=$OUT/s0/student.safetensors

# 4. cgF1, IL_MCC and pmF1 of both on the seven subsets; predictions go on where they were.
keep "$OUT/gold-teacher.json" "$LITETEXT" evaluate gold --gt "$GOLD" --model "$HOST" "${images[@]}" \
  --pred "$OUT/predictions-teacher" --device "$DEVICE" --dtype "$DTYPE" --json
keep "$OUT/gold-student.json" "$LITETEXT" evaluate gold --gt "$GOLD" --model "$HOST" "${images[@]}" --text-encoder "$student" \
  --pred "$OUT/predictions-student" --device "$DEVICE" --dtype "$DTYPE" --json

# 5. What the student keeps, subset by subset: ratio with an interval, agreement of masks, the worst disagreements.
[ -n "$dry" ] || mkdir -p "$OUT/retention"
for first in "$GOLD"/gold_*_merged_a_*test.json; do
  subset=$(basename "$first") && subset=${subset#gold_} && subset=${subset%%_merged_*}
  keep "$OUT/retention/$subset.json" "$LITETEXT" evaluate retention --model "$HOST" --student "$student" \
    --gt "$GOLD/gold_${subset}_merged_"?_*test.json "${images[@]}" -o "$OUT/retention/$subset" \
    --device "$DEVICE" --dtype "$DTYPE" --json
done

# 6. What the file is, and the same for transformers.
keep "$OUT/inspect.json" "$LITETEXT" inspect "$student" --json
if [ -e "$OUT/s0-huggingface/config.json" ]; then
  echo "= $OUT/s0-huggingface" >&2
else
  run "$LITETEXT" convert "$student" -o "$OUT/s0-huggingface" --to huggingface
fi
