"""ONNX: written with the `onnx` package, run by ONNX Runtime or OpenVINO; none of them needs PyTorch."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litetext.device import int8_overflows
from litetext.errors import EncoderError, MissingExtraError
from litetext.export.targets import INPUTS, OUTPUTS, Engine, Features, Ids, Mask, TargetOptions, any_shape

if TYPE_CHECKING:
    from litetext.encoders.student import TextStudent

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"
AGAIN = "export the student again"


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write a folded student as an ONNX graph, and return the name of its file.

    The weights stand in a file beside it, which ONNX Runtime maps: read from within the graph they would take twice
    their memory.
    """
    try:
        from litetext.export.graphs.text_graph import student_graph
    except ImportError as error:
        raise MissingExtraError("the export to ONNX", "onnx") from error
    import onnx

    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in student.state_dict().items()}
    notes = {"litetext": "a text encoder for SAM3", "config": student.config.to_json()}
    model = student_graph(student.config, tensors, options, notes)
    mode = folder.stat().st_mode & 0o666
    onnx.save_model(model, folder / MODEL, save_as_external_data=True, location=WEIGHTS, size_threshold=1024)
    for name in (MODEL, WEIGHTS):
        (folder / name).chmod(mode)
    return MODEL


def session_options(threads: int | None = None) -> Any:
    """How ONNX Runtime opens a graph of ours; ``threads`` of None are as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if int8_overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait gain up to a third on two quiet cores; once one is busy, two are up to twice as
    # slow as a single one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # patterns are of one shape, and every batch has another
    options.log_severity_level = 3  # errors only: each is raised as well
    return options


def open_engine(path: Path, threads: int | None = None) -> Engine:
    """Open an ONNX graph that we wrote in ONNX Runtime, on the CPU; several threads may run it at a time.

    ``threads`` of None are as many as there are cores.
    """
    import onnxruntime

    options = session_options(threads)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise EncoderError(f"ONNX Runtime cannot read it ({error})", where=str(path), hint=AGAIN) from error
    _check_ports(path, *([value.name for value in values] for values in (session.get_inputs(), session.get_outputs())))

    def run(ids: Ids, mask: Mask) -> Features:
        features: Features = session.run([OUTPUTS[0]], {INPUTS[0]: ids, INPUTS[1]: mask.astype(np.int64)})[0]
        return features

    batch, length = (size if isinstance(size, int) else None for size in session.get_inputs()[0].shape)
    return any_shape(run, length, batch)


def compile_openvino(path: Path, threads: int | None = None) -> Any:
    """Compile an ONNX graph that we wrote with OpenVINO, for the CPU.

    It computes in float32, but for what the graph has as integers. ``threads`` of None are as many as there are cores.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("running a program in OpenVINO", "openvino") from error
    # On processors with bfloat16 its default is to compute in that, with errors of 1e-2 against PyTorch.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if int8_overflows():
        settings["LP_TRANSFORMS_MODE"] = "NO"  # whole numbers are turned to float32 before they are multiplied
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        return openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "Exception" not in line and line.strip()]
        reason = lines[0] if lines else "damaged"
        raise EncoderError(f"OpenVINO cannot read it ({reason})", where=str(path), hint=AGAIN) from error


def open_openvino(path: Path, threads: int | None = None) -> Engine:
    """As `compile_openvino`, ready to encode; calls of several threads wait for each other."""
    compiled = compile_openvino(path, threads)
    ports = zip((compiled.inputs, compiled.outputs), (INPUTS, OUTPUTS), strict=True)
    _check_ports(path, *([_name(port, names) for port in some] for some, names in ports))
    request, lock = compiled.create_infer_request(), threading.Lock()

    def run(ids: Ids, mask: Mask) -> Features:
        with lock:
            request.infer({0: np.ascontiguousarray(ids), 1: mask.astype(np.int64)}, share_inputs=True)
            features: Features = request.get_output_tensor(0).data.copy()  # the next call writes there
        return features

    batch, length = (size.get_length() if size.is_static else None for size in compiled.inputs[0].partial_shape)
    return any_shape(run, length, batch)


def _name(port: Any, wanted: Sequence[str]) -> str:
    """The name of an input or output: of several that OpenVINO gives it the wanted one."""
    found: str = next((name for name in wanted if name in port.get_names()), port.get_any_name())
    return found


def _check_ports(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if (tuple(inputs), tuple(outputs)) != (INPUTS, OUTPUTS):
        names = f"inputs {', '.join(inputs)} and outputs {', '.join(outputs)}"
        raise EncoderError(f"{names} are not a text encoder's", where=str(path), hint=AGAIN)
