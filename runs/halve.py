"""Write a student with weights in float16: half the bytes, as the students of the package are stored.

The running statistics of its norms stay in float32: a variance may be above what float16 holds.
"""

import sys
from pathlib import Path
from typing import cast

from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.writer import save_student
from litetext.encoders.student import StudentEncoder


def main() -> None:
    """Read the one file, write the other."""
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    encoder = cast(StudentEncoder, load_encoder(source))
    for weight in encoder.module.parameters():
        weight.data = weight.data.half()
    save_student(encoder.module, target)


if __name__ == "__main__":
    main()
