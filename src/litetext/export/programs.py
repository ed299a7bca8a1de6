"""Programs of any inputs and outputs, opened in an engine: arrays by name in, arrays by name out."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from litetext.device import int8_overflows
from litetext.errors import EncoderError, MissingExtraError, OptionError, first_line
from litetext.export.graphs.external_weights import Place, point_to
from litetext.export.targets import INPUTS, OUTPUTS, Engine, Features, Ids, Mask, any_shape
from litetext.records import parse_json

EngineName = Literal["onnx", "openvino"]
ENGINES: tuple[EngineName, ...] = ("onnx", "openvino")
Array = npt.NDArray[Any]
Program = Callable[[Mapping[str, Array]], dict[str, Array]]
"""What runs: the outputs by name of inputs by name. Threads may share it."""

PREFIX = "detector_model."  # of a segmenter's weights in the file of a video model
SIZES = {"F32": 4, "F16": 2, "BF16": 2}  # bytes of a number
_MOST_HEADER = 100 * 2**20  # bytes, as the library of safetensors has it
_AGAIN = "export it again"
_FOLDER = "session.model_external_initializers_file_folder_path"
Weights = Mapping[str, Mapping[str, Any]]  # of a program: name -> {"dtype": as safetensors has it, "shape": [...]}


@dataclass(frozen=True)
class Named:
    """The weights that a program takes by name, and where they are: in files of one folder."""

    folder: Path
    declared: Weights
    places: Mapping[str, Place]


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


def open_program(
    path: Path,
    ports: tuple[Sequence[str], Sequence[str]],
    engine: EngineName = "onnx",
    threads: int | None = None,
    weights: "Named | None" = None,
    *,
    pack: bool = True,
) -> Program:
    """Open a graph on the CPU.

    Args:
        path: of the ONNX file.
        ports: names of its inputs, and of the outputs that are asked for.
        engine: ONNX Runtime or OpenVINO.
        threads: to compute with; None: one for each core that this process may use.
        weights: where the weights are that the file takes by name; ONNX Runtime only.
        pack: whether ONNX Runtime keeps weights in an order of its own beside those of the file: SAM3's images are
            then seen a sixth faster, for as much memory again.

    Raises:
        EncoderError: the engine cannot read it, or it has other inputs, or an output is not there.
        OptionError: weights by name for an engine that takes none.
    """
    if engine == "openvino":
        if weights is not None:
            hint = "export the model: litetext export MODEL --to openvino -o DIR"
            raise OptionError("these programs take their weights by name, which OpenVINO does not", hint=hint)
        return _open_openvino(path, ports, threads)
    return _open_onnx(path, ports, threads, weights, pack=pack)


def _open_onnx(
    path: Path,
    ports: tuple[Sequence[str], Sequence[str]],
    threads: int | None,
    weights: "Named | None",
    *,
    pack: bool,
) -> Program:
    import onnxruntime

    options = session_options(threads)
    program: Path | bytes = path
    if not pack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if weights is not None:
        program = point_to(path.read_bytes(), weights.declared, weights.places)
        options.add_session_config_entry(_FOLDER, str(weights.folder))
    try:
        session = onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        reason = first_line(error)
        raise EncoderError(f"ONNX Runtime cannot read it ({reason})", where=str(path), hint=_AGAIN) from error
    inputs, outputs = ([value.name for value in values] for values in (session.get_inputs(), session.get_outputs()))
    _check_ports(path, ports, (inputs, outputs))
    names = list(ports[1])

    def run(given: Mapping[str, Array]) -> dict[str, Array]:
        try:
            return dict(zip(names, session.run(names, dict(given)), strict=True))
        except Exception as error:  # its errors have no common class
            raise _failure(path, error) from error

    return run


def _open_openvino(path: Path, ports: tuple[Sequence[str], Sequence[str]], threads: int | None) -> Program:
    """It computes in float32, but for what the graph has as integers; calls of several threads wait for each other."""
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
        compiled = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "Exception" not in line and line.strip()]
        reason = lines[0] if lines else "damaged"
        raise EncoderError(f"OpenVINO cannot read it ({reason})", where=str(path), hint=_AGAIN) from error
    # A tensor may have several names: of these the one that is asked for, if it is there.
    inputs, outputs = (
        [next((name for name in wanted if name in port.get_names()), port.get_any_name()) for port in some]
        for wanted, some in zip(ports, (compiled.inputs, compiled.outputs), strict=True)
    )
    _check_ports(path, ports, (inputs, outputs))
    request, lock, names = compiled.create_infer_request(), threading.Lock(), list(ports[1])

    def run(given: Mapping[str, Array]) -> dict[str, Array]:
        with lock:
            try:
                request.infer({name: np.ascontiguousarray(value) for name, value in given.items()}, share_inputs=True)
            except RuntimeError as error:
                raise _failure(path, error) from error
            return {name: request.get_tensor(name).data.copy() for name in names}  # the next call writes there

    return run


def _failure(path: Path, error: Exception) -> EncoderError:
    """What a program that cannot run on what it is given, or not in the memory that there is, becomes."""
    return EncoderError(f"the program fails ({first_line(error)})", where=str(path), hint=_AGAIN)


def _check_ports(
    path: Path, wanted: tuple[Sequence[str], Sequence[str]], found: tuple[Sequence[str], Sequence[str]]
) -> None:
    if set(wanted[0]) != set(found[0]) or not set(wanted[1]) <= set(found[1]):
        names = f"inputs {', '.join(found[0])} and outputs {', '.join(found[1])}"
        hint = f"inputs {', '.join(wanted[0])} and outputs {', '.join(wanted[1])} are read"
        raise EncoderError(f"another program: {names}", where=str(path), hint=hint)


def text_engine(program: Program, length: int | None = None, batch: int | None = None) -> Engine:
    """A text encoder's program as an engine of any ids, whatever length and batch it is fixed to."""

    def run(ids: Ids, mask: Mask) -> Features:
        features: Features = program({INPUTS[0]: ids, INPUTS[1]: mask.astype(np.int64)})[OUTPUTS[0]]
        return features

    return any_shape(run, length, batch)


def find_weights(files: Sequence[Path], wanted: Weights) -> "Named":
    """Where the weights of a program are in the safetensors files of a checkpoint.

    Raises:
        EncoderError: a weight is not there, or of another dtype or shape: the program is not one of this checkpoint;
            or the files are in several folders.
    """
    found: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
    real = [file.resolve() for file in files]  # the cache of the hub has links
    for file in real:
        start, header = _read_header(file)
        found |= {name.removeprefix(PREFIX): (file, start, entry) for name, entry in header.items()}
    if len({file.parent for file in real}) > 1:
        raise EncoderError("a checkpoint in several folders", where=str(files[0]), hint="put its files into one")
    places = {}
    for name, entry in wanted.items():
        if name not in found:
            raise _misfit(files[0], f"'{name}' is not in it")
        file, start, stored = found[name]
        kinds = [(one["dtype"], list(one["shape"])) for one in (stored, entry)]
        if kinds[0] != kinds[1]:
            (dtype, shape), (other, other_shape) = kinds
            raise _misfit(file, f"'{name}' is {dtype} {shape}, not {other} {other_shape}")
        begin, end = stored["data_offsets"]
        if not 0 <= begin <= end <= file.stat().st_size - start:
            raise _misfit(file, "it is cut off")
        if (end - begin) != SIZES[entry["dtype"]] * math.prod(entry["shape"]):
            raise _misfit(file, f"'{name}' has {end - begin} bytes")
        places[name] = Place(file.name, start + begin, end - begin)
    return Named(real[0].parent, wanted, places)


def _read_header(file: Path) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """Where the data of a safetensors file begins, and its entries."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = parse_json(stream.read(size) if size <= _MOST_HEADER else b"")
        header.pop("__metadata__", None)
        is_sound = all(
            [type(place) for place in entry["data_offsets"]] == [int, int]
            and isinstance(entry["shape"], list)
            and entry["dtype"]
            for entry in header.values()
        )
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise EncoderError("not a file of safetensors", where=str(file), hint="fetch it again") from error
    if not is_sound:
        raise EncoderError("a file of safetensors without places", where=str(file), hint="fetch it again")
    return 8 + size, header


def _misfit(file: Path, what: str) -> EncoderError:
    hint = "export it with PyTorch: litetext export MODEL --to onnx -o DIR"
    return EncoderError(f"not the checkpoint of these programs: {what}", where=str(file), hint=hint)
