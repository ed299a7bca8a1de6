"""One mutation after another of a kind of file."""

import os
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

import litetext
from tests.fuzz.children import Ending, in_child
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.subjects import SUBJECTS


@dataclass(frozen=True)
class Result:
    """What came of a mutation.

    Attributes:
        file: what was damaged, within the folder of the kind.
        ending: of the command.
        fault: what is wrong with it; nothing where all is well.
    """

    file: Path
    ending: Ending
    fault: str


def import_everything() -> None:
    """Import what the commands need, once for all children: it takes seconds, and starts no threads."""
    for name in (
        "torch",
        "transformers",
        "onnxruntime",
        "polars",
        "PIL.Image",
        "pycocotools.mask",
        "rich.table",
        "litetext.evaluation.veval",
        "trackeval.metrics.hota",
    ):
        import_module(name)
    for package in ("auditing", "distillation", "encoders", "evaluation", "export", "prompts", "sam3"):
        for file in (Path(litetext.__file__).parent / package).glob("*.py"):
            import_module(f"litetext.{package}.{file.stem}")


class Fuzzer:
    """Damages the files of one kind; mutation ``n`` is always the same.

    Args:
        kind: of `SUBJECTS`.
        folder: an empty folder to work in.
        keep: failing files are copied there.
    """

    def __init__(self, kind: str, folder: Path, keep: Path) -> None:
        import_everything()
        self._kind, self._keep, self._subject = kind, keep, SUBJECTS[kind]
        self._valid, self._work, self._told = folder / "valid", folder / "work", folder / "told"
        for path in (self._valid, self._told):
            path.mkdir()
        made = in_child(lambda: self._subject.make(self._valid), self._told)
        if made.status:
            raise RuntimeError(f"{kind}: the valid files could not be made:\n{made.errors}")
        self._files = sorted(
            {file for glob in self._subject.damaged for file in self._valid.glob(glob) if file.is_file()}
        )
        self._answers: dict[tuple[Path | None, int], str] = {}

    def try_one(self, seed: int) -> Result:
        """Damage a file in the way that the seed says, and run a command on it."""
        rng = Random(f"{self._kind} {seed}")
        source = rng.choice(self._files)
        number = rng.randrange(len(self._subject.commands))
        answer = self._answer(source, number)
        mutate = mutate_json if source.suffix == ".json" else mutate_bytes
        data = mutate(source.read_bytes(), rng)
        ending = self._run(source, data, number)
        fault = ending.fault()
        if not fault and self._subject.sealed and ending.status == 0 and ending.output != answer:
            fault = "a damaged file is read, and the answer is another"
        file = source.relative_to(self._valid)
        if fault:
            self._save(file, data, seed, ending)
        return Result(file, ending, fault)

    def _run(self, source: Path, data: bytes, number: int) -> Ending:
        """Run a command on a copy of all files, of which one holds other bytes."""
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(self._valid, self._work, copy_function=os.link)
        file = source.relative_to(self._valid)
        (self._work / file).unlink()
        (self._work / file).write_bytes(data)
        if self._subject.renamed:
            (self._work / file).rename(self._work / f"damaged{''.join(file.suffixes)}")
        command = self._subject.commands[number]
        return in_child(lambda: command(self._work), self._told)

    def _answer(self, source: Path, number: int) -> str:
        """What the command says of the files as they were, which it must accept."""
        key = (source if self._subject.renamed else None, number)
        if key not in self._answers:
            ending = self._run(source, source.read_bytes(), number)
            if ending.status:
                raise RuntimeError(f"{self._kind}: {source.name} is not accepted as it is:\n{ending.errors}")
            self._answers[key] = ending.output
        return self._answers[key]

    def _save(self, file: Path, data: bytes, seed: int, ending: Ending) -> None:
        folder = self._keep / f"{self._kind}-{seed}"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
        (folder / "stderr").write_text(ending.errors, "utf-8", "backslashreplace")
