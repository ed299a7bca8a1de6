"""The rows of the benchmark: what is measured, from which files, by which engine, and against which reference."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from litetext.errors import OptionError

Group = Literal["teacher", "huggingface", "exact-L", "masked", "bank", "bundle"]
Precision = Literal["fp32", "bf16", "int8"]
ARTEFACT = "bundle:"  # before the path of a folder of the user's own
TEACHER = "teacher-fp32"
BANK_PHRASES = 1000  # of the row "bank"
HOST_CONTEXT = 32  # Sam3Processor pads every text to it


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: for the command line and JSON.
        title: for people; ``{student}`` stands for the student's name.
        chain: steps that make its files, each from the file of the step before (see `litetext.bench.steps`).
        opener: how the last file is opened (see `litetext.bench.openers`).
        group: "teacher"; "huggingface", a student as `transformers` runs it; "exact-L", the features of a student that
            reads padding up to its context; "masked", those of a student that reads none; "bank", features kept, not
            computed; "bundle", a folder of the user's own.
        precision: what its products are computed in.
        reference: the row in fp32 PyTorch whose features are what it should give; None where there is none.
    """

    name: str
    title: str
    chain: tuple[str, ...]
    opener: str
    group: Group
    precision: Precision
    reference: str | None

    def computed(self, context_length: int) -> int | None:
        """Tokens that are computed of every prompt, padding included; None where only the valid ones are."""
        if self.group in {"teacher", "huggingface"}:
            return HOST_CONTEXT
        return context_length if self.group == "exact-L" else None

    def known(self, texts: list[str]) -> list[str]:
        """The phrases that it can be asked for: a bank knows the first of them."""
        return texts[:BANK_PHRASES] if self.group == "bank" else texts


def _pair(name: str, title: str, steps: tuple[str, ...], opener: str, precision: Precision) -> tuple[Row, Row]:
    """The same way to run a student that reads padding, and one that masks it."""
    return (
        Row(name, f"{{student}}, {title}", ("attended", *steps), opener, "exact-L", precision, "torch"),
        Row(
            f"masked-{name}", f"{{student}} masked, {title}", ("masked", *steps), opener, "masked", precision,
            "masked-torch",
        ),
    )  # fmt: skip


_PAIRS = (
    _pair("torch", "PyTorch", (), "torch", "fp32"),
    _pair("folded", "PyTorch, folded", ("fold",), "torch", "fp32"),
    _pair("bf16", "PyTorch, folded, bf16", ("fold", "bf16"), "torch", "bf16"),
    _pair("int8", "PyTorch, int8", ("int8",), "torch", "int8"),
    _pair("onnx-fp32", "ONNX Runtime", ("fold", "onnx"), "onnx", "fp32"),
    _pair("onnx-int8", "ONNX Runtime, int8", ("int8", "onnx"), "onnx", "int8"),
    _pair("openvino-fp32", "OpenVINO", ("fold", "openvino"), "openvino", "fp32"),
    _pair("openvino-int8", "OpenVINO, int8", ("int8", "openvino"), "openvino", "int8"),
    _pair("pruned-onnx-int8", "pruned, int8, ONNX Runtime", ("prune", "int8", "onnx"), "onnx", "int8"),
)
_HF: Final = "huggingface"
ROWS: tuple[Row, ...] = (
    Row(TEACHER, "SAM3's text encoder, Hugging Face", ("teacher",), _HF, "teacher", "fp32", TEACHER),
    Row(
        "teacher-bf16", "SAM3's text encoder, Hugging Face, bf16", ("teacher", "halve"), _HF, "teacher", "bf16", TEACHER
    ),
    Row(_HF, "{student}, Hugging Face", ("attended", _HF), _HF, _HF, "fp32", "torch"),
    Row(f"{_HF}-bf16", "{student}, Hugging Face, bf16", ("attended", _HF, "halve"), _HF, _HF, "bf16", "torch"),
    *(pair[0] for pair in _PAIRS),
    *(pair[1] for pair in _PAIRS),
    Row("bank", "{student}, a bank of phrases", ("attended", "fold", "bank"), "bank", "bank", "fp32", "torch"),
)
BY_NAME = {row.name: row for row in ROWS}


def find_row(name: str) -> Row:
    """The row called so; ``bundle:PATH`` is a folder or a bank of the user's own.

    Raises:
        OptionError: no row is called so.
        EncoderError: there is no bundle at the path.
    """
    if name.startswith(ARTEFACT):
        return _given(name, Path(name.removeprefix(ARTEFACT)))
    if name not in BY_NAME:
        raise OptionError(f"no row is called '{name}'", hint=f"there are {', '.join(BY_NAME)}")
    return BY_NAME[name]


def _given(name: str, path: Path) -> Row:
    from litetext.export.bundle import open_bundle

    if path.is_file():
        return Row(name, path.name, (), "bank", "bundle", "fp32", None)
    found = open_bundle(path)
    precision: Precision = "int8" if found.options.precision == "int8" else "fp32"
    return Row(name, path.name, (), found.target, "bundle", precision, None)


def choose_rows(patterns: tuple[str, ...]) -> tuple[Row, ...]:
    """The rows whose name fits one of the patterns (as file names do, with * and ?), in the order of the table.

    Raises:
        OptionError: a pattern fits none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in ROWS):
            raise OptionError(f"no row is called '{pattern}'", hint=f"there are {', '.join(BY_NAME)}")
    return tuple(row for row in ROWS if any(fnmatchcase(row.name, pattern) for pattern in patterns))
