#!/usr/bin/env bash
# Install dist/*.whl, then dist/*.tar.gz, into a fresh environment without PyTorch, and try each: what `make dist` does.
set -euo pipefail
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
bin=$folder/venv/bin
"$bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
# What was compressed and exported with PyTorch serves without it; so does a bank.
.venv/bin/litetext compress micro-student -o "$folder/small.safetensors"
.venv/bin/litetext export "$folder/small.safetensors" --to onnx -o "$folder/onnx"
printf 'white dog\nred car\n' | .venv/bin/litetext bank - -o "$folder/bank.safetensors" --text-encoder micro
for archive in wheel source; do
  if [ "$archive" = source ]; then
    "$bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps dist/*.tar.gz
  fi
  (
    cd "$folder" # away from the sources
    "$bin/litetext" --version
    "$bin/litetext" audit --json | "$bin/python" -c 'import json, sys; assert json.load(sys.stdin)["prompts"]["distinct"] > 4000'
    "$bin/python" - "$folder" <<'PYTHON'
import importlib.util
import sys

from litetext.export.runtime import TextRuntime
from litetext.features.bank import PromptBank

assert importlib.util.find_spec("torch") is None
for source in (TextRuntime.open(f"{sys.argv[1]}/onnx"), PromptBank.open(f"{sys.argv[1]}/bank.safetensors")):
    features, mask = source.encode(["white dog", "red car"])
    assert features.shape == (2, 4, 64), features.shape
    assert mask.all()
PYTHON
  )
  echo "installed and tried: $archive"
done
