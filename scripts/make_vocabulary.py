"""Make the package's CLIP merges out of the file in the `open_clip_torch` wheel.

    python scripts/make_vocabulary.py

The wheel's file lists 262,144 merges; CLIP (and SAM3) use the first 48,894. Only those are shipped, as text and as a
table of the two ids that each merges.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from litetext.tokenizer.pruned import kept_merges

MERGES = 49_152 - 256 - 2  # CLIP's own arithmetic
TARGET = Path(__file__).parents[1] / "src/litetext/tokenizer/data/clip_merges.txt.gz"
TABLE = TARGET.with_name("clip_merges.npy")


def main() -> None:
    """Write the shipped files."""
    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise SystemExit("open_clip_torch is not installed: run `make setup` first")
    source = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        next(file)  # a version line
        merges = [next(file) for _ in range(MERGES)]
    TARGET.write_bytes(gzip.compress("".join(merges).encode(), mtime=0))
    np.save(TABLE, np.ascontiguousarray(kept_merges()[:, :2]), allow_pickle=False)
    print(f"{TARGET}: {len(merges)} merges, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
