"""Student files with CLIP's whole vocabulary, for the tests of everything that makes them smaller."""

from pathlib import Path
from typing import Any

from litetext.checkpoints.writer import save_student
from litetext.tokenizer.vocabulary import VOCABULARY_SIZE
from tests.encoders.students import tiny_student


def student_file(folder: Path, padding: Any = "masked", **changes: Any) -> Path:
    number, folded = changes.pop("number", None), changes.pop("folded", False)
    module = tiny_student(padding, vocabulary=VOCABULARY_SIZE, **changes)
    module = module.fold() if folded else module
    save_student(module if number is None else module.to(number), folder / "student.safetensors")
    return folder / "student.safetensors"
