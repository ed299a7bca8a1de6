#!/usr/bin/env bash
# Install dist/*.whl, then dist/*.tar.gz, into a fresh environment without PyTorch, and try each: what `make dist` does.
set -euo pipefail
python=${1:-python3}
most=430 # MB of all packages, pip among them; docs/how-to/install.md says what they are
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
bin=$folder/venv/bin
"$bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
packages=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
size=$(du -sm "$packages" | cut -f1)
echo "the base install: $size MB"
if [ "$size" -gt "$most" ]; then
  echo "error: more than $most MB; the largest:" >&2
  du -m -d1 "$packages" | sort -rn | head >&2
  exit 1
fi
# What was compressed and exported with PyTorch serves without it; so does a bank.
.venv/bin/litetext compress micro-student -o "$folder/small.safetensors"
.venv/bin/litetext export "$folder/small.safetensors" --to onnx -o "$folder/onnx"
printf 'white dog\nred car\n' | .venv/bin/litetext bank - -o "$folder/bank.safetensors" --text-encoder micro
for archive in wheel source; do
  if [ "$archive" = source ]; then
    "$bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.tar.gz
  fi
  mkdir "$folder/$archive"
  (
    cd "$folder/$archive" # away from the sources
    litetext=$bin/litetext
    "$litetext" --version
    "$litetext" audit --json | "$bin/python" -c 'import json, sys; assert json.load(sys.stdin)["prompts"]["distinct"] > 4000'
    "$litetext" micro scene -o scene.png --seed 187 --split test
    "$litetext" micro clips -o clips --plot crossing --count 1 --seed 5 --length 8
    "$litetext" micro world -o world --pairs 12 --seed 1
    "$litetext" segment scene.png -p "red car" --model micro -o found
    for encoder in micro-student "$folder/onnx" "$folder/bank.safetensors"; do
      "$litetext" segment scene.png -p "red car" --model micro --text-encoder "$encoder"
    done
    "$litetext" track clips/videos/crossing-000005 -p pig --model micro -o tracked
    "$litetext" evaluate gold --gt world/gold.json --images world --model micro --pred pred.json
    "$litetext" evaluate retention --model micro --student micro --pairs 12
    "$litetext" micro evaluate --pairs 12
    "$litetext" inspect micro
    if [ "$archive" = wheel ]; then # a minute
      "$litetext" demo
      test -s demo/index.html
    fi
    test -s found/scene.png
    test -s tracked/masklets.json
    "$bin/python" - "$folder" <<'PYTHON'
import importlib.util
import sys

import litetext as lt

assert importlib.util.find_spec("torch") is None
for source in (lt.TextRuntime.open(f"{sys.argv[1]}/onnx"), lt.PromptBank.open(f"{sys.argv[1]}/bank.safetensors")):
    features, mask = source.encode(["white dog", "red car"])
    assert features.shape == (2, 4, 64), features.shape
    assert mask.all()
assert len(lt.SegmentRuntime.open("micro")("scene.png", ["red car"])[0]) == 1
PYTHON
  )
  echo "installed and tried: $archive"
done
