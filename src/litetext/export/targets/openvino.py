"""OpenVINO: a student as its intermediate representation, by way of ONNX; it also runs ONNX graphs as they are."""

import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litetext.errors import EncoderError, MissingExtraError
from litetext.export.targets import onnx
from litetext.export.targets.shapes import Features, Ids, Mask, ProgramShape
from litetext.export.targets.target import INPUTS, OUTPUTS, TargetOptions

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

MODEL, WEIGHTS = "model.xml", "model.bin"


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write a folded student as ``model.xml`` with its weights in ``model.bin``, and return the name of the first.

    Args:
        student: folded, on the CPU.
        folder: where to.
        options: "fp16" keeps weights in float16; it is OpenVINO that computes with them in float32 again.

    Raises:
        MissingExtraError: OpenVINO or the package `onnx` is not installed.
        OSError: it cannot be written.
    """
    ov = _openvino("the export to OpenVINO")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".onnx.") as beside:
        graph = Path(beside) / onnx.write(student, Path(beside), options)
        model = ov.convert_model(graph)
        # Weights first: a model without them does not open, and the other way round nothing asks for them.
        ov.save_model(model, Path(beside) / MODEL, compress_to_fp16=options.precision == "fp16")
        del model  # it maps the graph's weights
        for name in (WEIGHTS, MODEL):
            (Path(beside) / name).replace(folder / name)
    return MODEL


def open_engine(folder: Path, file: str, threads: int | None) -> "OpenVinoEngine":
    """Compile a program for the CPU; it computes in float32, but for what the program has as integers.

    Args:
        folder: where it is.
        file: ``model.xml``, or an ONNX graph.
        threads: that one run may use; None for as many as there are cores.

    Raises:
        EncoderError: OpenVINO cannot read it, or it has other inputs or outputs.
        MissingExtraError: OpenVINO is not installed.
    """
    path = folder / file
    ov = _openvino("running a program in OpenVINO")
    # On processors with bfloat16 its default is to compute in that, and to answer 1e-2 beside PyTorch.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        model = ov.Core().read_model(path)
        names = tuple(tuple(port.get_any_name() for port in ports) for ports in (model.inputs, model.outputs))
        if names != (INPUTS, OUTPUTS):
            said = " and outputs ".join(", ".join(some) for some in names)
            raise EncoderError(f"inputs {said} are not a text encoder's", where=str(path), hint="export the student")
        return OpenVinoEngine(ov.Core().compile_model(model, "CPU", settings))
    except RuntimeError as error:
        first = next((line for line in str(error).splitlines() if "Exception" not in line and line.strip()), "damaged")
        raise EncoderError(
            f"OpenVINO cannot read it ({first.strip()})", where=str(path), hint="export again"
        ) from error


class OpenVinoEngine:
    """A compiled program; calls from several threads wait for each other.

    Args:
        compiled: OpenVINO's compiled model, with our inputs and outputs.
    """

    def __init__(self, compiled: Any) -> None:
        batch, length = (size.get_length() if size.is_static else None for size in compiled.inputs[0].partial_shape)
        self.shape = ProgramShape(length, batch, whole=True)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def run(self, ids: Ids, mask: Mask) -> Features:
        """Features [B, L, D] of CLIP's ids [B, L], zero at padding.

        Raises:
            EncoderError: not both [B, L], or longer than the program.
        """
        return self.shape.run(self._call, ids, mask)

    def _call(self, ids: Ids, mask: Mask) -> Features:
        inputs = {0: np.ascontiguousarray(ids), 1: mask.astype(np.int64)}
        with self._lock:
            self._request.infer(inputs, share_inputs=True)
            features: Features = self._request.get_output_tensor(0).data.copy()  # the next call writes there
        return features


def _openvino(feature: str) -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError(feature, "openvino") from error
    return openvino
