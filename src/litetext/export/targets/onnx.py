"""ONNX: written with the `onnx` package, run by ONNX Runtime or OpenVINO (`programs`); none of them needs PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

from litetext.errors import MissingExtraError
from litetext.export.targets import TargetOptions

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

MODEL = "model.onnx"


def write(student: "TextStudent", folder: Path, options: TargetOptions, name: str = MODEL) -> str:
    """Write a folded student as an ONNX graph in a file of that name, which is returned.

    The weights stand in ``NAME.data`` beside it, which ONNX Runtime maps: read from within the graph they would take
    twice their memory.
    """
    try:
        from litetext.export.graphs.text_graph import student_graph
    except ImportError as error:
        raise MissingExtraError("the export to ONNX", "onnx") from error
    import onnx

    tensors = {key: tensor.detach().cpu().numpy() for key, tensor in student.state_dict().items()}
    notes = {"litetext": "a text encoder for SAM3", "config": student.config.to_json()}
    model = student_graph(student.config, tensors, options, notes)
    mode = folder.stat().st_mode & 0o666
    onnx.save_model(model, folder / name, save_as_external_data=True, location=f"{name}.data", size_threshold=1024)
    for file in (folder / name, folder / f"{name}.data"):
        file.chmod(mode)
    return name
