# Shared by the experiments on the micro world: sourced, not run. Each step is skipped where its result is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${OUT:-runs/out}             # students and results; ignored by git
SEEDS=${SEEDS:-"0 1 2"}          # of the students
PAIRS=${PAIRS:-1000}             # (picture, phrase) pairs that each student is judged by
PAIRS_SEED=${PAIRS_SEED:-7}      # of these pairs, the same for all
PHRASES=${PHRASES:-20000}        # phrases of the micro world to learn from
EPOCHS=${EPOCHS:-20}
LITETEXT=${LITETEXT:-.venv/bin/litetext}

# The teacher's features of the corpus, once for all experiments.
prepare() {
  mkdir -p "$OUT"
  test -s "$OUT/phrases.txt" || "$LITETEXT" micro phrases -o "$OUT/phrases.txt" --count "$PHRASES"
  "$LITETEXT" embed "$OUT/phrases.txt" -o "$OUT/features" --model micro
}

# student FOLDER SEED < RECIPE: what differs from the base recipe below comes from standard input, by section.
student() {
  local folder=$1 seed=$2
  mkdir -p "$folder"
  .venv/bin/python runs/recipe.py "$OUT/features" "$EPOCHS" "$seed" > "$folder.toml"
  test -s "$folder/MODEL_CARD.md" || "$LITETEXT" distill "$folder.toml" -o "$folder" > "$folder.log"
}

# judge FOLDER: presence, masks and order of words, with the student inside the micro SAM3.
judge() {
  test -s "$1.json" || "$LITETEXT" evaluate retention --model micro --student "$1/student.safetensors" \
    --pairs "$PAIRS" --seed "$PAIRS_SEED" --json > "$1.json.part"
  test -s "$1.json" || mv "$1.json.part" "$1.json"
}

# trial FOLDER SEED < RECIPE: a student, and what it is worth.
trial() {
  student "$1" "$2"
  judge "$1"
}
