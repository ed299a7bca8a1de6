"""What the fresh processes of a benchmark do: make the files of an encoder, load it, time it.

A process gets one job (``python -m litetext.export.benchmark_jobs JOB``, JSON in, one line of JSON out) and imports
what it needs and nothing else, so that memory and "without PyTorch" are what they are for a user.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from litetext.device import resident_bytes
from litetext.errors import EncoderError, LiteTextError, MissingExtraError

if TYPE_CHECKING:
    from litetext.encoders.student import StudentEncoder
    from litetext.features.encode import Encoder

Figures = dict[str, Any]

TEACHER, SERVED = "teacher", "served"  # SAM3's text encoder; an exported folder or a bank, measured as it is
BANK_PHRASES, CALIBRATED, CHECKED, COUNTED = 1000, 1000, 64, 16  # COUNTED: phrases whose FLOPs are counted
HOST_CONTEXT, COMPARED = 32, 32  # tokens that Sam3Processor pads to; phrases of a call where throughput is compared
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class Row(NamedTuple):
    """A line of the table."""

    name: str
    source: str  # the encoder, as the user named it
    backend: str  # in `BACKENDS`, "teacher" or "served"
    folder: str  # where its files are made
    path: str = ""  # what is measured; a bank is a file, what else is served a folder

    @property
    def is_bank(self) -> bool:
        """Whether it knows only some phrases."""
        return self.backend in {"bank", SERVED} and Path(self.path).is_file()


def run_job(job: Figures, threads: int | None, module: str = "litetext.export.benchmark_jobs") -> Figures:
    """Do a job in a fresh process; an error is its own message, or names the signal that ended the process."""
    command = [sys.executable, "-m", module, json.dumps(job | {"threads": threads})]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "true"}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, check=False, env=environment, timeout=3600
        )
    except subprocess.TimeoutExpired as error:
        raise LiteTextError("not done after an hour") from error
    if done.returncode < 0:
        memory = ", as the system does when memory runs out" if -done.returncode == signal.SIGKILL else ""
        raise LiteTextError(f"ended by {signal.Signals(-done.returncode).name}{memory}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise LiteTextError(lines[-1].removeprefix("error: "))
    answer: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def answer_job(do: Callable[[Figures], Figures]) -> None:
    """Do the job on the command line; a known mistake is one line on standard error and exit status 1."""
    try:
        answer = do(json.loads(sys.argv[1]))
    except ModuleNotFoundError as error:
        sys.exit(f"error: {MissingExtraError(f'a row that takes {error.name}', 'sam3')}")
    except (LiteTextError, ImportError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def prepare(job: Figures) -> Figures:
    """Make the files of one source: of each backend ``path`` and ``flops`` of a prompt, or the ``reason`` why not."""
    from litetext.checkpoints.hub import locate

    folder = Path(job["folder"])
    folder.mkdir()
    texts: list[str] = json.loads((folder.parent / "prompts.json").read_bytes())
    if job["backends"] == [TEACHER]:
        path = locate(job["source"])
        return {TEACHER: {"path": str(path), "flops": _count_flops(_open_torch(path, TEACHER), texts)}}
    student = _load_student(job["source"], job["positions"], job["context_length"])
    reference = _open_torch(_make("torch", student, folder, texts), "torch")
    rows = list(_rows(reference, texts[: job["phrases"]]))
    np.savez(folder / "reference.npz", values=np.concatenate(rows), lengths=[len(row) for row in rows])
    flops = _count_flops(reference, texts)
    made: Figures = {}
    for backend in job["backends"]:
        try:
            path = _make(backend, student, folder, texts)
            made[backend] = {"path": str(path), "flops": None if backend == "bank" else flops}
            if backend == "huggingface":
                made[backend]["flops"] = _count_flops(_HuggingFace(path), texts)
        except (LiteTextError, ImportError, OSError, RuntimeError) as error:
            made[backend] = {"reason": " ".join(str(error).split())}
    return made


def _load_student(source: str, positions: Any, context_length: int | None) -> "StudentEncoder":
    """A student in float32, or as it is quantized; one with random weights where the source is a size."""
    import torch

    from litetext.checkpoints.load import load_encoder
    from litetext.encoders.config import PRESETS, EncoderConfig
    from litetext.encoders.student import StudentEncoder, build_student

    if source in PRESETS and not Path(source).exists():
        config = EncoderConfig.of(source, context_length, padding="attended")
        return StudentEncoder(build_student(config, torch.Generator().manual_seed(0)).eval(), source)
    encoder = load_encoder(source, positions=positions, context_length=context_length, device="cpu")
    if not isinstance(encoder, StudentEncoder):
        raise EncoderError("not a student", where=source, hint="give a student; a teacher goes to --teacher")
    return encoder


def _make(backend: str, encoder: "StudentEncoder", folder: Path, texts: Sequence[str]) -> Path:
    """What a backend runs, made of a student."""
    from litetext.checkpoints.load import load_encoder
    from litetext.checkpoints.writer import save_encoder, save_student
    from litetext.export.compress import Student, compress

    module, stored, small = encoder.module, folder / "student.safetensors", folder / "int8.safetensors"
    if backend in {"torch", "torch-bf16"}:
        if not stored.exists():
            save_student(module, stored)
        return stored
    if backend == "huggingface":
        config = replace(module.config, padding="attended")
        save_encoder(config, module.state_dict().items(), folder / backend, "huggingface")
        return folder / backend
    if backend == "bank":
        from litetext.features.bank import make_bank

        make_bank(folder / "bank.safetensors", list(texts[:BANK_PHRASES]), encoder)
        return folder / "bank.safetensors"
    student, (engine, _, precision) = Student.of(encoder), backend.partition("-")
    if precision and not small.exists():
        compress(encoder, texts, quantize="int8", check=CHECKED, calibrated=CALIBRATED).save(small)
    if engine == "torch":
        return small
    if precision:
        student = Student.of(load_encoder(small, positions="keep", device="cpu"))
    target = folder / backend.replace("openvino", "onnx")  # the same file, run by another engine
    if not target.exists():
        student.export(target, "onnx", texts[:CHECKED])
    return target


def _count_flops(encoder: "Encoder", texts: Sequence[str]) -> float:
    """The mean floating-point operations of a prompt that is encoded alone."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        calls = [encoder.encode([text]) for text in texts[:COUNTED]]
    return float(counter.get_total_flops()) / len(calls)


def measure(row: Row, job: Figures) -> Figures:
    """Import, load, first phrase, batches: seconds, resident bytes since the imports, and features compared."""
    path, (modules, opener) = Path(row.path), _engine(row, job["threads"])
    for name in modules:
        import_module(name)
    before = resident_bytes(trim=True)
    opened: list[Encoder] = []
    load_seconds = _seconds(lambda: opened.append(opener(path)))
    encoder, loaded = opened[0], resident_bytes()
    texts: list[str] = json.loads(Path(row.folder).with_name("prompts.json").read_bytes())
    if row.is_bank:
        known: Any = encoder
        texts = texts[:BANK_PHRASES] if row.backend == "bank" else list(islice(known.phrases, BANK_PHRASES))
    first_seconds = _seconds(lambda: encoder.encode([texts[0]]))
    first = resident_bytes()
    sizes = [size for size in job["batches"] if size <= len(texts)]
    streams = zip(sizes, deal(texts, sizes, job["seed"]), strict=True)
    speeds = {str(size): time_batches(encoder.encode, stream, job["seconds"]) for size, stream in streams}
    stages = {"load": loaded, "first": first, "batches": resident_bytes()}
    return {
        "load_seconds": load_seconds,
        "first_seconds": first_seconds,
        "resident_mb": {stage: size and before and (size - before) / 1e6 for stage, size in stages.items()},
        "process_mb": first and first / 1e6,
        "file_mb": sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / 1e6,
        "imports_torch": "torch" in sys.modules,
        "batches": speeds,
        "cosine": _compare(row, encoder, texts[: job["phrases"]]),
    }


def _engine(row: Row, threads: int) -> tuple[tuple[str, ...], Callable[[Path], "Encoder"]]:
    """The modules that a row needs, whose import is timed apart, and what opens its file."""
    if row.is_bank:
        from litetext.features.bank import PromptBank

        return (), PromptBank.open
    if row.backend == "huggingface":
        return ("torch", "transformers.models.sam3_lite_text.modeling_sam3_lite_text"), _HuggingFace
    if row.backend == TEACHER or row.backend.startswith("torch"):
        modules = ("torch", "litetext.checkpoints.load", "litetext.encoders.student", "litetext.encoders.teacher")
        return modules, lambda path: _open_torch(path, row.backend)
    from litetext.export.bundle import open_bundle
    from litetext.export.runtime import TextRuntime

    engine = "openvino" if row.backend.startswith("openvino") else open_bundle(Path(row.path)).target
    libraries = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}.get(engine, ())
    return libraries, lambda path: TextRuntime.open(path, engine=engine, threads=threads, cache=0, warm=False)


def _open_torch(path: str | Path, backend: str) -> "Encoder":
    """A student as its padding wants it; a teacher padded to its context, as Hugging Face runs it."""
    from litetext.checkpoints.load import load_encoder
    from litetext.encoders.encoder import ModuleEncoder
    from litetext.encoders.teacher import TextTeacher

    dtype = "bfloat16" if backend == "torch-bf16" else "auto"
    encoder = load_encoder(path, positions="auto" if backend == TEACHER else "keep", dtype=dtype, device="cpu")
    if isinstance(encoder, ModuleEncoder) and isinstance(encoder.module, TextTeacher):
        encoder.module.config = replace(encoder.module.config, padding="attended")
        return encoder
    if backend == TEACHER:
        raise EncoderError("not a teacher", where=str(path), hint="give SAM3's text encoder; students are arguments")
    return encoder


class _HuggingFace:
    """A student as `Sam3Processor` and `get_text_features` run it: padded to 32, padding masked in attention."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open
        from transformers import AutoConfig
        from transformers.models.sam3_lite_text.modeling_sam3_lite_text import Sam3LiteTextTextModel

        from litetext.checkpoints.hub import quiet
        from litetext.tokenizer.pruned import huggingface_tokenizer

        with quiet():
            config: Any = AutoConfig.from_pretrained(path)
            model: Any = Sam3LiteTextTextModel
            keys = {r"^text_encoder\.": ""}
            self.model = model.from_pretrained(path, config=config.text_config, key_mapping=keys).eval()
        with safe_open(path / "model.safetensors", framework="pt") as file:
            self.weight, self.bias = (file.get_tensor(f"text_projection.{name}") for name in ("weight", "bias"))
        self.tokenizer = huggingface_tokenizer()
        self.name, self.context_length, self.width = str(path), HOST_CONTEXT, len(self.weight)

    def encode(self, texts: Sequence[str]) -> Any:
        """Features [B, 32, D] and mask [B, 32]."""
        import torch

        how: Any = {"padding": "max_length", "max_length": HOST_CONTEXT, "truncation": True, "return_tensors": "pt"}
        batch = self.tokenizer(list(texts), **how)
        with torch.inference_mode():
            hidden = self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            values = torch.nn.functional.linear(hidden, self.weight, self.bias)
        return values.numpy(), batch["attention_mask"].bool().numpy()


def _rows(encoder: "Encoder", texts: Sequence[str]) -> Iterator[Any]:
    """Features [L_i, D] of each text, in order."""
    from litetext.features.encode import array_rows

    for start in range(0, len(texts), COMPARED):
        yield from array_rows(encoder, texts[start : start + COMPARED])


def _compare(row: Row, encoder: "Encoder", texts: Sequence[str]) -> Figures | None:
    """How close the features are to those of fp32 PyTorch with the same weights; None where there are none."""
    from litetext.features.compare import compare_rows

    file = Path(row.folder, "reference.npz")
    if not texts or not file.exists():
        return None
    with np.load(file) as kept:
        expected = np.split(kept["values"], np.cumsum(kept["lengths"])[:-1])
    return compare_rows(zip(expected, _rows(encoder, texts), strict=False), row.name).to_json()


def time_batches(
    encode: Callable[[Sequence[str]], Any],
    batches: Iterator[list[str]],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time calls until the seconds are used up and there are three, or four times the seconds are.

    One call before is not counted, unless it takes longer than the seconds: then it is the only one.
    """
    batch = next(batches)
    warm = _seconds(lambda: encode(batch), clock)
    calls = [warm] if warm > seconds else []
    total = sum(calls)
    while warm <= seconds and (total < seconds or (len(calls) < 3 and total < 4 * seconds)):
        batch = next(batches)
        calls.append(_seconds(lambda: encode(batch), clock))  # noqa: B023 - called at once
        total += calls[-1]
    p50, p99 = (1000 * float(np.quantile(calls, share)) for share in (0.5, 0.99))
    return {"prompts_per_second": len(batch) * len(calls) / total, "p50_ms": p50, "p99_ms": p99, "calls": len(calls)}


def deal(texts: Sequence[str], sizes: Sequence[int], seed: int) -> list[Iterator[list[str]]]:
    """For each batch size an endless stream of batches in random order; no phrase twice within a batch.

    Each size has phrases of its own, so that no cache helps; where these do not fill a batch, it has all of them.
    """
    order = random.Random(seed).sample(list(texts), len(texts))  # noqa: S311 - nothing is secret
    streams: list[Iterator[list[str]]] = []
    for number, size in enumerate(sizes):
        part = order[number :: len(sizes)] if len(order) >= size * len(sizes) else order
        streams.append(cycle([part[start : start + size] for start in range(0, len(part) - size + 1, size)]))
    return streams


def _seconds(action: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    action()
    return clock() - start


if __name__ == "__main__":
    answer_job(lambda job: prepare(job) if job["kind"] == "prepare" else measure(Row(*job["row"]), job))
