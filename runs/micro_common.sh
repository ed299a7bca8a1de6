# Shared by the experiments on the micro world: sourced, not run. Each step is skipped where its result is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-runs/out}             # students and results; ignored by git
SEEDS=${SEEDS:-"0 1 2"}          # of the students
PAIRS=${PAIRS:-1000}             # (picture, phrase) pairs that each student is judged by
PAIRS_SEED=${PAIRS_SEED:-7}      # of these pairs, the same for all
PHRASES=${PHRASES:-20000}        # phrases of the micro world to learn from
EPOCHS=${EPOCHS:-20}
JOBS=${JOBS:-2}                  # students at a time, one thread each
LITETEXT=${LITETEXT:-.venv/bin/litetext}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
STARTED=()

# The teacher's features of the corpus, once for all experiments.
prepare() {
  mkdir -p "$OUT"
  test -s "$OUT/phrases.txt" || "$LITETEXT" micro phrases -o "$OUT/phrases.txt" --count "$PHRASES"
  "$LITETEXT" embed "$OUT/phrases.txt" -o "$OUT/features" --teacher micro
}

# student FOLDER SEED < RECIPE: what differs from the base recipe (runs/recipe.py) comes from standard input, as TOML.
student() {
  local folder=$1 seed=$2
  mkdir -p "$folder"
  .venv/bin/python runs/recipe.py "$OUT/features" "$EPOCHS" "$seed" > "$folder.toml"
  test -s "$folder/MODEL_CARD.md" || "$LITETEXT" distill "$folder.toml" -o "$folder" > "$folder.log"
}

# keep FILE COMMAND ...: the standard output of a command as a file, whole or not at all.
keep() {
  local file=$1
  shift
  test -s "$file" || { "$@" > "$file.part" && mv "$file.part" "$file"; }
}

# judge FOLDER: presence and masks, with the student inside the micro SAM3.
judge() {
  keep "$1.json" "$LITETEXT" evaluate retention --model micro --student "$1/student.safetensors" \
    --pairs "$PAIRS" --seed "$PAIRS_SEED" --json
}

# trial FOLDER SEED < RECIPE: a student, and what it is worth.
trial() {
  student "$1" "$2"
  judge "$1"
}

# later COMMAND ...: run it beside others, JOBS at a time.
later() {
  while [ "$(jobs -pr | wc -l)" -ge "$JOBS" ]; do wait -n; done
  "$@" <&0 & # without the redirection a background job reads nothing
  STARTED+=($!)
}

# Wait for all of them; one that failed ends the script.
finish() {
  local job
  for job in "${STARTED[@]}"; do wait "$job"; done
  STARTED=()
}

# The base recipe, which every experiment holds one setting of: once for each seed.
bases() {
  mkdir -p "$OUT/base"
  local seed
  for seed in $SEEDS; do later trial "$OUT/base/$seed" "$seed" <<< ""; done
}

# as_base EXPERIMENT SETTING: its results are those of the base recipe.
as_base() {
  local seed
  mkdir -p "$OUT/$1"
  for seed in $SEEDS; do cp "$OUT/base/$seed.json" "$OUT/$1/$2-$seed.json"; done
}

# table EXPERIMENT
table() {
  .venv/bin/python runs/table.py "$OUT/$1"
}
