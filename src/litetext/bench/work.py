"""The folder that a run works in: what all rows share, the phrases, and the files that are measured."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Self

from litetext.bench.rows import ARTEFACT, Row
from litetext.checkpoints.hub import locate
from litetext.encoders.config import StudentConfig
from litetext.errors import OptionError
from litetext.storage import fingerprint, to_json, write_text

DEFAULT_PRESET = "s0"
ANOTHER = "give another folder, or remove this one"
_FOLDERS = ("teacher", "huggingface", "halve", "onnx", "openvino")  # what these steps make


@dataclass(frozen=True)
class Inputs:
    """What the files of a run are made of.

    Attributes:
        student: a student as `litetext inspect` takes it; None for random weights.
        stamp: when its file was written and how long it is, so that another one is noticed.
        preset: the size where the weights are random, a name in `PRESETS`.
        positions: of the student's position table, as `load_encoder` takes it.
        context_length: tokens that the student reads; None: as many as it has rows.
        teacher: a teacher's checkpoint; None for random weights of SAM3's size.
        prompts: where the phrases are from.
        fingerprint: SHA-256 of the phrases in their order.
        version: of this package.
    """

    student: str | None
    stamp: str
    preset: str
    positions: str
    context_length: int | None
    teacher: str | None
    prompts: str
    fingerprint: str
    version: str

    @classmethod
    def of(
        cls,
        *,
        prompts: tuple[str, Sequence[str]],
        student: str | None = None,
        preset: str | None = None,
        teacher: str | None = None,
        positions: str | None = None,
        context_length: int | None = None,
    ) -> Self:
        """Inputs of this version, with stamps and fingerprint; what is None has its default.

        Args:
            prompts: where they are from, and the phrases.
            student: as above.
            preset: as above, only without a student; default s0.
            teacher: as above.
            positions: as above, only with a student; default auto.
            context_length: as above.

        Raises:
            EncoderError: no such student or teacher.
            OptionError: no such preset or context, or options that do not belong together.
        """
        if student is None:
            StudentConfig.of(preset or DEFAULT_PRESET, context_length, padding="attended")
        if (preset if student else positions) is not None:
            hint = "a preset is for random weights, positions are for a student of yours"
            raise OptionError("a preset beside a student" if student else "positions without a student", hint=hint)
        source, texts = prompts
        return cls(
            student=student,
            stamp="; ".join(_stamp(spec) for spec in (student, teacher) if spec is not None),
            preset=preset or DEFAULT_PRESET,
            positions=positions or "auto",
            context_length=context_length,
            teacher=teacher,
            prompts=source,
            fingerprint=fingerprint(texts),
            version=version("litetext"),
        )

    @property
    def student_name(self) -> str:
        """What the table calls the student."""
        return self.preset.upper() if self.student is None else Path(self.student).stem


@dataclass(frozen=True)
class Work:
    """The folder.

    Attributes:
        folder: where everything is.
    """

    folder: Path

    def begin(self, inputs: Inputs, texts: Sequence[str]) -> None:
        """Write down what the run is made of.

        Raises:
            OptionError: the folder is that of another run.
            OSError: it cannot be written.
        """
        if self.used:
            before = self.inputs()
            for field in fields(Inputs):
                old, new = getattr(before, field.name), getattr(inputs, field.name)
                if old != new:
                    what = f"files of another run ({field.name} {old!r}, not {new!r})"
                    raise OptionError(what, where=str(self.folder), hint=ANOTHER)
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise OptionError("a folder with other files in it", where=str(self.folder), hint=ANOTHER)
        write_text(self.folder / "prompts.json", json.dumps(list(texts)))
        write_text(self._inputs, to_json(asdict(inputs)))

    @property
    def used(self) -> bool:
        """Whether a run has begun in it."""
        return self._inputs.is_file()

    def inputs(self) -> Inputs:
        """What the run is made of.

        Raises:
            OptionError: the file says something else.
        """
        try:
            return Inputs(**json.loads(self._inputs.read_bytes()))
        except (ValueError, TypeError) as error:
            raise OptionError("not the inputs of a run", where=str(self._inputs), hint=ANOTHER) from error

    def texts(self) -> list[str]:
        """The phrases, in random order."""
        texts: list[str] = json.loads((self.folder / "prompts.json").read_bytes())
        return texts

    def file(self, row: Row) -> Path:
        """What a row measures."""
        return Path(row.name.removeprefix(ARTEFACT)) if row.group == "bundle" else self.made(row.chain)

    def made(self, chain: Sequence[str]) -> Path:
        """What a chain of steps leads to: a safetensors file, or a folder."""
        suffix = "" if chain[-1] in _FOLDERS else ".safetensors"
        return self.folder / "files" / ("+".join(chain) + suffix)

    def facts(self, chain: Sequence[str]) -> Path:
        """What is known of a file that was made; it is written last."""
        return self.folder / "files" / ("+".join(chain) + ".json")

    def weights(self, row: Row) -> str | None:
        """What the weights of a row's files are; None where nothing was made."""
        known = self.facts(row.chain)
        return json.loads(known.read_bytes())["weights"] if known.is_file() else None

    def reference(self, name: str) -> Path:
        """The features of a row that others are compared with."""
        return self.folder / "references" / f"{name}.safetensors"

    @property
    def _inputs(self) -> Path:
        return self.folder / "inputs.json"


def _stamp(spec: str) -> str:
    path = locate(spec)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return " ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
