"""Core ML: what stands in the package that is written; only a Mac can run it, and none has."""

import importlib.util
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("coremltools") is None:
    pytest.skip("no package coremltools (pip install 'litetext[coreml]')", allow_module_level=True)

from litetext.encoders.config import EncoderConfig  # noqa: E402
from litetext.errors import OptionError  # noqa: E402
from litetext.export.targets import Precision, TargetOptions, coreml  # noqa: E402
from litetext.export.targets.program import quiet_converter  # noqa: E402
from tests.encoders.students import tiny_student  # noqa: E402
from tests.export.serving import quantized  # noqa: E402
from tests.export.targets.cases import student  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize(("kind", "precision", "share"), [("pruned", "fp16", 0.6), ("masked", "int8", 0.35)])
def test_what_stands_in_the_package(tmp_path: Path, kind: str, precision: Precision, share: float) -> None:
    module = student(kind) if precision == "fp16" else quantized(student(kind), "float", "int4")
    assert coreml.write(module, tmp_path, TargetOptions(length=20, batch=8, precision=precision)) == "text.mlpackage"
    assert [path.name for path in tmp_path.iterdir()] == ["text.mlpackage"]
    with quiet_converter():
        import coremltools

        model = coremltools.models.MLModel(str(tmp_path / "text.mlpackage"), skip_model_load=True)
    assert EncoderConfig.from_json(model.user_defined_metadata["litetext.config"]) == module.config
    description = model.get_spec().description
    assert [entry.name for entry in description.input] == ["input_ids", "attention_mask"]
    assert [entry.name for entry in description.output] == ["text_features", "text_mask"]
    assert list(description.input[0].type.multiArrayType.shape) == [8, 20]
    functions = model.get_spec().mlProgram.functions.values()
    kinds = {op.type for one in functions for block in one.block_specializations.values() for op in block.operations}
    # In float16, which has no odd number above 2,048, a clamp would read rows of other tokens.
    assert not {"clip", "minimum", "maximum"} & kinds
    size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < share * sum(tensor.nbytes for tensor in student(kind).state_dict().values())


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="not folded"):
        coreml.write(tiny_student("masked"), tmp_path, TargetOptions())
    assert not list(tmp_path.iterdir())
