"""Serving: PyTorch's features whatever the batch, order, threads or cache, without PyTorch; mistakes are one line."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from litetext.encoders.config import Padding  # noqa: E402
from litetext.encoders.student import StudentEncoder  # noqa: E402
from litetext.errors import EncoderError, OptionError  # noqa: E402
from litetext.export.bundle import read_tokenizer, write_manifest  # noqa: E402
from litetext.export.exporter import export_student  # noqa: E402
from litetext.export.runtime import TextRuntime, is_served, open_served, parts_of  # noqa: E402
from litetext.export.targets import TargetOptions  # noqa: E402
from litetext.features.compare import row_cosines  # noqa: E402
from litetext.storage import checksum  # noqa: E402
from tests.export.serving import PHRASES, pruned, quantized, reference, student  # noqa: E402

pytestmark = pytest.mark.torch
Ids, Mask = npt.NDArray[np.int64], npt.NDArray[np.bool_]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("served")
    students = {"attended": student("attended"), "masked": student("masked"), "pruned": pruned("masked")}
    for name, module in students.items():
        export_student(StudentEncoder(module, name), root / name, PHRASES)
    options = TargetOptions(length=16, batch=3)
    export_student(StudentEncoder(student("masked"), "fixed"), root / "fixed", PHRASES, options=options)
    export_student(StudentEncoder(quantized(student("masked")), "int8"), root / "int8", PHRASES)
    return {name: root / name for name in (*students, "fixed", "int8")}


@pytest.mark.parametrize("name", ["attended", "masked", "pruned", "fixed"])
def test_features_of_pytorch(folders: dict[str, Path], name: str) -> None:
    runtime = TextRuntime.open(folders[name], threads=1)
    features, mask = runtime.encode(PHRASES)
    padding: Padding = "attended" if name == "attended" else "masked"
    wanted, seen = reference(student(padding), PHRASES)
    assert features.dtype == np.float32
    assert features.shape == (len(PHRASES), mask.shape[1], 256)
    assert mask.tolist() == seen[:, : mask.shape[1]].tolist()
    np.testing.assert_allclose(features[mask], wanted[seen], atol=2e-5)
    assert (features[~mask] == 0).all()
    assert (runtime.name, runtime.context_length, runtime.width) == (name, 16, 256)


@settings(max_examples=10, deadline=None)
@given(texts=st.lists(st.text(max_size=20), min_size=1, max_size=12), size=st.integers(1, 5), cache=st.integers(0, 5))
def test_any_batch_and_cache(folders: dict[str, Path], texts: list[str], size: int, cache: int) -> None:
    single = opened(folders["masked"])
    runtime = TextRuntime(single.bundle, single.text_tokenizer, single._engine, batch_size=size, cache=cache)
    for _ in range(2):
        features, mask = runtime.encode(texts)
        for row, text in enumerate(texts):
            alone, seen = single.encode([text])
            np.testing.assert_allclose(features[row][mask[row]], alone[0][seen[0]], atol=1e-5)


@lru_cache
def opened(folder: Path) -> TextRuntime:
    return TextRuntime.open(folder, cache=0)


@pytest.mark.parametrize("name", ["masked", "int8", "fixed"])
def test_thirty_two_callers_at_once(folders: dict[str, Path], name: str) -> None:
    runtime = TextRuntime.open(folders[name], threads=1, batch_size=2, cache=3)
    expected = {text: runtime.encode([text])[0][0] for text in PHRASES}

    def call(number: int) -> bool:
        texts = [PHRASES[(number + step) % len(PHRASES)] for step in range(3)]
        features, _ = runtime.encode(texts)
        return all(
            np.abs(features[row, : len(expected[text])] - expected[text]).max() < 1e-5 for row, text in enumerate(texts)
        )

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(call, range(200)))


def observed(runtime: TextRuntime) -> list[tuple[int, ...]]:
    """The shapes of the batches that its engine is given from now on."""
    shapes: list[tuple[int, ...]] = []
    engine = runtime._engine

    def run(ids: Ids, mask: Mask) -> npt.NDArray[np.float32]:
        shapes.append(ids.shape)
        return engine(ids, mask)

    runtime._engine = run
    return shapes


def test_duplicates_and_known_texts_are_computed_once(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["masked"], cache=2)
    shapes = observed(runtime)
    features, _ = runtime.encode(["white dog", "White  Dog", "cat", "white dog"])
    assert len(shapes) == 1
    assert shapes[0][0] == 2
    assert (features[0] == features[3]).all()
    assert (features[0] == features[1]).all()
    runtime.encode(["cat", "white dog"])
    assert len(shapes) == 1
    runtime.encode(["tree"])  # "cat" was asked for before "white dog": it is forgotten
    runtime.encode(["white dog"])
    assert len(shapes) == 2
    runtime.encode(["cat"])
    assert len(shapes) == 3


def test_what_is_returned_is_the_callers(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["masked"])
    first, _ = runtime.encode(["cat"])
    first[:] = 7
    assert (runtime.encode(["cat"])[0] != 7).any()


def test_similar_lengths_share_a_batch(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["masked"], batch_size=2, cache=0, threads=1)
    shapes = observed(runtime)
    runtime.encode(["cat", "one two three four five", "dog", "six seven eight nine ten"])
    assert shapes == [(2, 7), (2, 3)]


def test_parts_are_equal_shares() -> None:
    assert list(parts_of(range(9), 4, 1)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert list(parts_of(range(8), 8, 2)) == [[0, 3, 4, 7], [1, 2, 5, 6]]
    assert list(parts_of(range(7), 8, 2)) == [list(range(7))]  # too few for two threads
    for count in range(1, 40):
        parts = list(parts_of(range(count), 5, 3))
        assert sorted(row for part in parts for row in part) == list(range(count))
        assert max(map(len, parts)) <= 5


def test_an_error_of_a_part_is_that_of_the_call(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["masked"], threads=3, batch_size=4, cache=0)

    def fail(ids: Ids, mask: Mask) -> npt.NDArray[np.float32]:
        raise EncoderError("no power")

    runtime._engine = fail
    with pytest.raises(EncoderError, match="no power"):
        runtime.encode([f"{number} dogs" for number in range(40)])


FAULTS: dict[str, tuple[Callable[[TextRuntime], object], str]] = {
    "nothing": (lambda runtime: runtime.encode([]), "no texts to encode"),
    "numbers": (lambda runtime: runtime.encode(["cat", 3]), "int is not a string, text 1"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_texts_are_one_line(folders: dict[str, Path], fault: str) -> None:
    call, message = FAULTS[fault]
    with pytest.raises(OptionError, match=message):
        call(TextRuntime.open(folders["masked"], warm=False))


def test_long_texts_are_cut_at_the_context(folders: dict[str, Path]) -> None:
    features, mask = TextRuntime.open(folders["attended"]).encode(["dog " * 500])
    assert mask.sum() == 16
    np.testing.assert_allclose(features, reference(student("attended"), ["dog " * 500])[0], atol=2e-5)


def test_options_that_make_no_sense(folders: dict[str, Path]) -> None:
    for options, message in (
        ({"threads": 0}, "0 threads"),
        ({"batch_size": 0}, "batches of 0 texts"),
        ({"cache": -1}, "a cache of -1"),
        ({"engine": "tpu"}, "tpu"),
        ({"engine": "executorch"}, "executorch.*onnx"),
    ):
        with pytest.raises(OptionError, match=message):
            TextRuntime.open(folders["masked"], **options)  # type: ignore[arg-type]


def test_a_foreign_graph_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value], [helper.make_tensor_value_info("y", 1, [1])]
    )
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    for data, message in (
        (model, "inputs x and outputs y"),
        (b"junk", "ONNX Runtime cannot read it"),
    ):
        bundle = TextRuntime.open(folders["masked"], warm=False).bundle
        (tmp_path / "model.onnx").write_bytes(data)
        for name in ("merges.npy", "tokenizer.json"):
            (tmp_path / name).write_bytes((folders["masked"] / name).read_bytes())
        program = checksum(tmp_path, ["model.onnx"])
        write_manifest(tmp_path, replace(bundle, files={"model.onnx": len(data)}, program=program))
        with pytest.raises(EncoderError, match=message) as raised:
            TextRuntime.open(tmp_path)
        assert "\n" not in str(raised.value)


def test_features_that_are_not_finite_are_refused(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["pruned"], cache=0)
    runtime.text_tokenizer = read_tokenizer(folders["masked"])  # gives tokens that were pruned
    with pytest.raises(EncoderError, match="the features of 'locomotive' are not finite"):
        runtime.encode(["white dog", "locomotive"])


@pytest.mark.parametrize("name", ["masked", "attended", "pruned", "fixed", "int8"])
def test_openvino_runs_an_exported_onnx_graph(folders: dict[str, Path], name: str) -> None:
    pytest.importorskip("openvino")
    expected, mask = TextRuntime.open(folders[name], threads=1).encode(PHRASES)
    features, _ = TextRuntime.open(folders[name], engine="openvino", threads=1).encode(PHRASES)
    cosines = row_cosines(features[mask], expected[mask])
    assert cosines.min() > (0.999 if name == "int8" else 0.99999)


def test_it_serves_without_pytorch(folders: dict[str, Path]) -> None:
    code = (
        "import sys; from litetext.export.runtime import TextRuntime\n"
        f"features, mask = TextRuntime.open({str(folders['int8'])!r}).encode(['white dog', 'cat'])\n"
        "heavy = {'torch', 'transformers', 'onnx', 'polars', 'matplotlib', 'tokenizers.trainers'} & set(sys.modules)\n"
        "print(features.shape, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 4, 256) []\n"


def test_any_iterable_of_texts(folders: dict[str, Path]) -> None:
    runtime = TextRuntime.open(folders["masked"])
    values, mask = runtime.encode(text for text in PHRASES)
    wanted, seen = runtime.encode(PHRASES)
    assert np.array_equal(values, wanted)
    assert np.array_equal(mask, seen)
    for odd in ([None], [3], ["a", b"b"], 3, iter(())):
        with pytest.raises(OptionError):
            runtime.encode(odd)  # type: ignore[arg-type]


def test_what_is_served_is_opened_as_an_encoder(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = open_served(str(folders["masked"]))
    features = encoder.encode(["white dog", "cat"])
    expected, mask = TextRuntime.open(folders["masked"]).encode(["white dog", "cat"])
    assert np.array_equal(features.values.numpy(), expected)
    assert np.array_equal(features.mask.numpy(), mask)
    assert encoder.parameters == sum(parameter.numel() for parameter in student("masked").parameters())
    assert encoder.bytes == sum(file.stat().st_size for file in folders["masked"].glob("model.*"))
    for path in ("micro", "facebook/sam3", str(tmp_path)):
        assert not is_served(path)
    with pytest.raises(OptionError, match="--fallback"):
        open_served(str(folders["masked"]), lambda: encoder)
