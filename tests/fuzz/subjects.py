"""What is damaged: valid files of every format that LiteText reads, and the commands that read them.

A command gets the folder of the damaged files; it is a command line of `litetext`, or a function of Python. Everything
here runs in child processes: libraries that start threads do not survive a fork.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litetext.cli import run
from litetext.errors import LiteTextError

Command = Callable[[Path], int]
PHRASES = ["white dog", "red car", "a small blue boat on the left", "café au lait", "tree"]


@dataclass(frozen=True)
class Subject:
    """Files, what may be damaged of them, and who reads them.

    Attributes:
        make: writes valid files into a folder.
        damaged: globs of the files that are damaged, one of them at a time.
        commands: of which each mutation runs one.
        renamed: whether the damaged one of several files gets a name of its own, ``damaged.ENDING``.
        sealed: whether a checksum guards the files: a command that accepts damaged ones must answer as before.
    """

    make: Callable[[Path], None]
    damaged: tuple[str, ...]
    commands: tuple[Command, ...]
    sealed: bool = False
    renamed: bool = False


def damaged(folder: Path) -> Path:
    """The damaged file, where commands take one of several; it keeps its endings, which tell its format."""
    return next(folder.glob("damaged.*"), folder)


def cli(*arguments: str) -> Command:
    """A command line; ``@name`` is a file of the folder, ``@damaged`` the damaged one."""

    def command(folder: Path) -> int:
        places = {"@damaged": damaged(folder)}
        return run([str(places.get(word, folder / word[1:])) if word[0] == "@" else word for word in arguments])

    return command


def python(work: Callable[[Path], Any]) -> Command:
    """A function of Python; an error that LiteText names is one line and status 1, as the command line does it."""

    def command(folder: Path) -> int:
        import sys

        try:
            result = work(folder)
        except LiteTextError as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
        sys.stdout.write(f"{result}\n")
        return 0

    return command


def digest(*arrays: np.ndarray) -> str:
    """A digest of numbers, to compare answers."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"exit status {status}")


def _make_prompts(folder: Path) -> None:
    import gzip
    import pickle

    import polars as pl
    import zstandard

    texts = [*PHRASES, 'a "quoted" phrase', "naïve, with a comma"]
    lines = "".join(f"{text}\n" for text in texts)
    (folder / "a.txt").write_text(lines, "utf-8")
    (folder / "utf16.txt").write_text(lines, "utf-16")
    (folder / "a.txt.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (folder / "a.txt.zst").write_bytes(zstandard.compress(lines.encode()))
    table = pl.DataFrame({"id": range(len(texts)), "prompt": texts, "count": [3] * len(texts)})
    table.write_csv(folder / "a.csv")
    table.write_csv(folder / "a.tsv", separator="\t")
    table.write_parquet(folder / "a.parquet")
    table.write_ipc(folder / "a.arrow")
    table.group_by("count").agg("prompt").write_parquet(folder / "lists.parquet", compression="zstd")
    objects = [{"phrase": text, "count": index} for index, text in enumerate(texts, 1)]
    (folder / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects), "utf-8")
    documents: dict[str, Any] = {
        "list": texts,
        "objects": objects,
        "counts": dict.fromkeys(texts, 2),
        "classes": {"dog": ["a white dog", "a dog"], "car": ["a red car"]},
        "coco": {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 4}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1]}],
            "categories": [{"id": 2, "name": "traffic_light"}, {"id": 3, "name": "dog"}],
        },
        "saco": {"images": [{"id": 1, "text_input": "dog", "file_name": "a.jpg"}], "annotations": []},
        "veval": {
            "video_np_pairs": [{"id": 1, "video_id": 1, "category_id": 2, "noun_phrase": "dog"}],
            "categories": [{"id": 2, "name": "dog"}],
        },
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document), "utf-8")
    refs = [{"ref_id": 1, "sentences": [{"sent": "left man", "raw": "Left man", "tokens": ["left", "man"]}]}]
    (folder / "refs.p").write_bytes(pickle.dumps(refs, protocol=2))
    (folder / "refs4.pkl").write_bytes(pickle.dumps(refs, protocol=4))


def _make_arrays(folder: Path) -> None:
    from safetensors.numpy import save_file

    matrix = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    np.save(folder / "a.npy", matrix)
    np.savez(folder / "a.npz", x=matrix)
    np.savez_compressed(folder / "b.npz", x=matrix, scale=np.float32(1))
    save_file({"x": matrix, "bias": matrix[0]}, folder / "a.safetensors")
    (folder / "prompts.txt").write_text("dog\n")


def _load_array(folder: Path) -> str:
    from litetext.arrays import load_matrix

    return digest(load_matrix(str(damaged(folder))))


def _make_checkpoints(folder: Path) -> None:
    from litetext.checkpoints.hub import shipped_folder
    from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher, every_format

    student = shipped_folder("micro-student-xs")
    assert student is not None
    (folder / "litetext.safetensors").write_bytes(next(student.glob("*.safetensors")).read_bytes())
    for name, write in every_format(Student.make(TINY), Teacher.make(TINY_TEACHER)).items():
        (folder / name).mkdir()
        path = write(folder / name)
        path.rename(folder / f"{name}{path.suffix}")


def _make_folder(folder: Path) -> None:
    _check(run(["convert", "micro", "--to", "huggingface", "-o", str(folder / "hf")]))


def _make_bank(folder: Path) -> None:
    (folder / "phrases.txt").write_text("\n".join(PHRASES), "utf-8")
    for number in ("fp16", "int8"):
        name = str(folder / f"{number}.safetensors")
        _check(
            run(["bank", str(folder / "phrases.txt"), "-o", name, "--text-encoder", "micro", "--store-dtype", number])
        )


def _read_bank(folder: Path) -> str:
    from litetext.features.bank import PromptBank

    bank = PromptBank.open(damaged(folder))
    return f"{bank.name} {digest(*bank.encode(PHRASES))}"


def _make_export(folder: Path) -> None:
    _check(run(["export", "micro-student-xs", "--to", "onnx", "-o", str(folder / "onnx")]))


def _serve(folder: Path) -> str:
    from litetext.export.runtime import TextRuntime

    return digest(*TextRuntime.open(folder / "onnx", threads=1).encode(PHRASES))


def _make_segmenter(folder: Path) -> None:
    from litetext.export.segment_exporter import export_segmenter
    from litetext.sam3.segmenter import Segmenter

    segmenter = Segmenter.from_pretrained("micro", "micro-student-xs", device="cpu")
    export_segmenter(segmenter, folder / "micro", ["red car"], name="micro")


def _segment(folder: Path) -> str:
    from litetext.export.segment_runtime import open_segmenter
    from litetext.sam3.segmenter import Segmenter

    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    (found,) = Segmenter(open_segmenter(folder / "micro", threads=1))(pixels, "red car")
    return digest(found.masks, found.boxes)


def _make_store(folder: Path) -> None:
    (folder / "phrases.txt").write_text("\n".join(PHRASES), "utf-8")
    _check(run(["embed", str(folder / "phrases.txt"), "--teacher", "micro", "-o", str(folder / "store")]))


def _read_store(folder: Path) -> str:
    from litetext.features.store import FeatureStore

    features = FeatureStore.open(folder / "store").features(PHRASES)
    return digest(features.values.float().numpy(), features.mask.numpy())


def _make_recipes(folder: Path) -> None:
    (folder / "a.toml").write_text(
        'preset = "xs"\ncontext_length = 16\nfeatures = "store"\nsources = ["a.txt"]\n'
        "batch_size = 8\nepochs = 2\n[losses]\nmse = 1.0\ncosine = 0.5\n",
        "utf-8",
    )


def _read_recipe(folder: Path) -> str:
    from litetext.distillation.recipe import read_recipe

    return str(read_recipe(folder / "a.toml"))


def _make_gold(folder: Path) -> None:
    from tests.evaluation.synthetic import gold_set

    gold_set(3, 12, 2, folder)


def _make_videos(folder: Path) -> None:
    from tests.evaluation.videos import video_set

    video_set(0, folder, videos=2, phrases=3, categories=6)


def _make_images(folder: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tif", "a.ppm"):
        picture.save(folder / name, exif=exif)
    picture.convert("P").save(folder / "palette.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(folder / "wide.png")
    picture.save(folder / "packed.tif", compression="tiff_lzw")


def _read_image(folder: Path) -> str:
    from litetext.sam3.images import read_image

    return str(read_image(damaged(folder)).size)


GOLD = ("--gt", "@gold_0.json", "@gold_1.json", "--pred", "@predictions.json")

SUBJECTS = {
    "prompts": Subject(
        _make_prompts, ("*.*",), (cli("audit", "@damaged", "--json"), cli("audit", "@damaged")), renamed=True
    ),
    "arrays": Subject(
        _make_arrays,
        ("*.np*", "*.safetensors"),
        (python(_load_array), cli("audit", "@prompts.txt", "--embeddings", "@damaged", "--json")),
        renamed=True,
    ),
    "checkpoints": Subject(_make_checkpoints, ("*.*",), (cli("inspect", "@damaged"),), renamed=True),
    "folders": Subject(_make_folder, ("hf/*",), (cli("inspect", "@hf"),)),
    "banks": Subject(
        _make_bank,
        ("*.safetensors",),
        (python(_read_bank), cli("inspect", "@damaged", "--json")),
        sealed=True,
        renamed=True,
    ),
    "exports": Subject(
        _make_export, ("onnx/*",), (python(_serve), python(_serve), cli("inspect", "@onnx", "--json")), sealed=True
    ),
    "segmenters": Subject(_make_segmenter, ("micro/*",), (python(_segment),), sealed=True),
    "stores": Subject(_make_store, ("store/*",), (python(_read_store),), sealed=True),
    "recipes": Subject(_make_recipes, ("*.toml",), (python(_read_recipe),)),
    "gold": Subject(_make_gold, ("gold_*.json",), (cli("evaluate", "gold", *GOLD, "--ap", "--json"),)),
    "predictions": Subject(_make_gold, ("predictions.json",), (cli("evaluate", "gold", *GOLD, "--ap"),)),
    "veval": Subject(
        _make_videos,
        ("truth.json", "found.json"),
        (
            cli("evaluate", "veval", "--gt", "@truth.json", "--pred", "@found.json", "--json"),
            cli("evaluate", "veval", "--gt", "@truth.json", "--pred", "@found.json"),
        ),
    ),
    "images": Subject(_make_images, ("*.*",), (python(_read_image),), renamed=True),
}
