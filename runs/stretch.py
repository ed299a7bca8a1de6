"""Write a student whose position table is stretched to 77 rows: what training by interpolation leaves in a file."""

import sys
from pathlib import Path
from typing import cast

from litetext.checkpoints.load import load_encoder
from litetext.checkpoints.writer import save_student
from litetext.encoders.student import StudentEncoder


def main() -> None:
    """Read the one file, write the other."""
    source, target = map(Path, sys.argv[1:])
    encoder = cast(StudentEncoder, load_encoder(source, positions="interpolate", context_length=77))
    save_student(encoder.module, target)


if __name__ == "__main__":
    main()
