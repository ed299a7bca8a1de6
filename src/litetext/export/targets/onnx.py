"""ONNX: written with the `onnx` package, run by ONNX Runtime, neither of which needs PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litetext.errors import EncoderError, MissingExtraError
from litetext.export.targets.shapes import Features, Ids, Mask, ProgramShape
from litetext.export.targets.target import INPUTS, OUTPUTS, TargetOptions

if TYPE_CHECKING:
    import onnxruntime

    from litetext.encoders.student import TextStudent

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write a folded student as an ONNX graph, and return the name of its file.

    The weights stand in a file beside it, which ONNX Runtime maps: read from within the graph they would take twice
    their memory.

    Raises:
        MissingExtraError: the package `onnx` is not installed.
        OSError: it cannot be written.
    """
    try:
        from litetext.export.text_graph import student_graph
    except ImportError as error:
        raise MissingExtraError("the export to ONNX", "onnx") from error
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in student.state_dict().items()}
    notes = {"litetext": "a text encoder for SAM3", "config": student.config.to_json()}
    model = student_graph(student.config, tensors, options, notes)
    import onnx

    mode = folder.stat().st_mode & 0o666
    onnx.save_model(model, folder / MODEL, save_as_external_data=True, location=WEIGHTS, size_threshold=1024)
    for name in (MODEL, WEIGHTS):
        (folder / name).chmod(mode)
    return MODEL


class OnnxEngine:
    """A graph in ONNX Runtime, on the CPU; several threads may run it at a time.

    Args:
        session: has our inputs and outputs.
    """

    def __init__(self, session: "onnxruntime.InferenceSession") -> None:
        self._session = session
        batch, length = (size if isinstance(size, int) else None for size in session.get_inputs()[0].shape)
        self.shape = ProgramShape(length, batch, whole=True)

    def run(self, ids: Ids, mask: Mask) -> Features:
        """Features [B, L, D] of CLIP's ids [B, L], zero at padding.

        Raises:
            EncoderError: not both [B, L], or longer than the program.
        """
        return self.shape.run(self._call, ids, mask)

    def _call(self, ids: Ids, mask: Mask) -> Features:
        features: Features = self._session.run([OUTPUTS[0]], {INPUTS[0]: ids, INPUTS[1]: mask.astype(np.int64)})[0]
        return features


def open_engine(folder: Path, file: str, threads: int | None = None) -> OnnxEngine:
    """Open an ONNX graph that we wrote.

    Args:
        folder: where it is.
        file: its name.
        threads: that one run may use; None for as many as there are cores.

    Raises:
        EncoderError: ONNX Runtime cannot read it, or it has other inputs or outputs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.enable_mem_pattern = False  # patterns are of one shape, and every batch has another
    options.log_severity_level = 3  # errors only: each is raised as well
    path = folder / file
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise EncoderError(
            f"ONNX Runtime cannot read it ({error})", where=str(path), hint="export the student again"
        ) from error
    names = [tuple(value.name for value in values) for values in (session.get_inputs(), session.get_outputs())]
    if names != [INPUTS, OUTPUTS]:
        raise EncoderError(
            f"inputs {', '.join(names[0])} and outputs {', '.join(names[1])} are not a text encoder's",
            where=str(path),
            hint="export the student again",
        )
    return OnnxEngine(session)
