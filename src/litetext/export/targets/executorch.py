"""ExecuTorch: a student as a ``.pte`` file for phones and boards, with XNNPACK for the CPU.

Here it is run by ExecuTorch's Python runtime, which needs PyTorch for its tensors; on a device it is run from C++,
Java or Swift, without.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from litetext.errors import EncoderError, MissingExtraError, OptionError
from litetext.export.targets import Engine, Features, Ids, Mask, TargetOptions, any_shape
from litetext.export.targets.program import (
    ServedProgram,
    batch_axes,
    export_program,
    quiet_converter,
    with_float_weights,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from litetext.encoders.student import TextStudent

FILE = "text.pte"
MOST_TEXTS = 32  # of one call where the batch is open; ExecuTorch plans its memory for them
OPEN_BATCH = "batch_is_open"  # a method of the program that answers 0 or 1


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write ``text.pte`` of a folded student: int64 ids and mask [B, L] in, the answers of `ServedProgram` out.

    With "int8" the weights of linear layers are int8 with a scale for each output channel, and their inputs are
    quantized while it runs, each token by its own range; the token table and the convolutions stay float32.

    The length is by default the student's context, the batch 1 to 32. Returns the file's name.
    """
    if options.precision == "fp16":
        raise OptionError("ExecuTorch in fp16", hint="give fp32, or quantize the student: litetext compress")
    program = ServedProgram(with_float_weights(student), options.length or student.config.context_length)
    with quiet_converter():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise MissingExtraError("export to ExecuTorch", "executorch") from error
        exported = export_program(program, options.batch, MOST_TEXTS)
        if options.precision == "int8":
            exported = _quantize_linears(exported, options.batch)
        lowered = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            constant_methods={OPEN_BATCH: int(options.batch is None)},
        ).to_executorch()
    with (folder / FILE).open("wb") as file:
        lowered.write_to_file(file)
    return FILE


def open_engine(path: Path, threads: int | None = None) -> Engine:
    """An engine of a file that `write` wrote; calls of several threads wait for each other.

    ``threads`` of XNNPACK are the whole process's, so that the last engine decides; None leaves them.
    """
    with quiet_converter():
        try:
            from executorch.extension.pybindings.portable_lib import (
                _threadpool_get_thread_count,
                _unsafe_reset_threadpool,
            )
            from executorch.runtime import Runtime
        except ImportError as error:
            raise MissingExtraError("running an ExecuTorch program", "executorch") from error
    if not path.is_file():
        raise EncoderError("no such file", where=str(path), hint="export again")
    if threads is not None and threads != _threadpool_get_thread_count():
        _unsafe_reset_threadpool(threads)
    try:
        program = Runtime.get().load_program(path)
        if {"forward", OPEN_BATCH} - set(program.method_names):
            raise EncoderError("not a text encoder of ours", where=str(path), hint="export the student again")
        is_open = bool(program.load_method(OPEN_BATCH).execute([])[0])
        method: Any = program.load_method("forward")
    except RuntimeError as error:
        raise EncoderError(f"ExecuTorch cannot load it ({error})", where=str(path), hint="export it again") from error
    lock = threading.Lock()

    def run(ids: Ids, mask: Mask) -> Features:
        inputs = [torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for array in (ids, mask)]
        with lock:
            features: Features = method.execute(inputs)[0].numpy().copy()  # the next call writes there
        return features

    batch, length = method.metadata.input_tensor_meta(0).sizes()
    return any_shape(run, length, batch, fill_batch=not is_open)


def _quantize_linears(exported: "ExportedProgram", batch: int | None) -> "ExportedProgram":
    """The same program with int8 weights by output channel, and inputs that are quantized at run time."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    quantizer.set_module_type(torch.nn.Linear, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
    inputs = exported.example_inputs[0]
    prepared = prepare_pt2e(exported.module(), quantizer)
    prepared(*inputs)  # the observers of the weights look once; ranges of inputs are found at run time
    quantized: Any = convert_pt2e(prepared)
    return torch.export.export(quantized, inputs, dynamic_shapes=batch_axes(batch, len(inputs[0])))
