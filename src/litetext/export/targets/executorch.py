"""ExecuTorch: a student as a ``.pte`` file for phones and boards, with XNNPACK for the CPU.

Here it is run by ExecuTorch's Python runtime, which needs PyTorch for its tensors; on a device it is run from C++,
Java or Swift, without.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litetext.errors import EncoderError, MissingExtraError, OptionError
from litetext.export.targets.quiet import quiet_converter
from litetext.export.targets.shapes import Features, Ids, Mask, ProgramShape
from litetext.export.targets.target import TargetOptions
from litetext.storage import atomic_file

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from litetext.encoders.student import TextStudent

FILE = "text.pte"
MOST_TEXTS = 32  # of one call where the batch is open; ExecuTorch plans its memory for them
OPEN_BATCH = "batch_is_open"  # a method of the program that answers 0 or 1
FEATURE = "export to ExecuTorch"


def write(student: "TextStudent", folder: Path, options: TargetOptions) -> str:
    """Write ``text.pte``, which takes int64 ids and mask [B, L] and answers as `ServedProgram` does.

    With "int8" the weights of linear layers are int8 with a scale for each output channel, and their inputs are
    quantized while it runs, each token by its own range; the token table and the convolutions stay float32.

    Args:
        student: folded, float32, on the CPU.
        folder: where to.
        options: length None is the student's context; batch None is 1 to 32.

    Returns:
        The file's name.

    Raises:
        OptionError: precision "fp16", or a student that is not folded.
        MissingExtraError: ExecuTorch is not installed.
        OSError: the file cannot be written.
    """
    if options.precision == "fp16":
        raise OptionError("ExecuTorch in fp16", hint="give fp32, or quantize the student: litetext quantize")
    from litetext.export.targets.program import ServedProgram, export_program, with_float_linears

    program = ServedProgram(with_float_linears(student), options.length or student.config.context_length)
    with quiet_converter():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise MissingExtraError(FEATURE, "executorch") from error
        exported = export_program(program, options.batch, MOST_TEXTS)
        if options.precision == "int8":
            exported = _quantize_linears(exported, options.batch)
        lowered = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            constant_methods={OPEN_BATCH: int(options.batch is None)},
        ).to_executorch()
    with atomic_file(folder / FILE) as file:
        lowered.write_to_file(file)
    return FILE


def open_engine(folder: Path, file: str, threads: int | None) -> "ExecuTorchEngine":
    """An engine of a file that `write` wrote.

    Args:
        folder: where it is.
        file: its name.
        threads: of XNNPACK; they are the whole process's, so that the last engine decides. None leaves them.

    Raises:
        EncoderError: no such file, a damaged one, or another program.
        MissingExtraError: ExecuTorch is not installed.
    """
    path = folder / file
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
        return ExecuTorchEngine(program.load_method("forward"), is_open=is_open)
    except RuntimeError as error:
        raise EncoderError(f"ExecuTorch cannot load it ({error})", where=str(path), hint="export it again") from error


class ExecuTorchEngine:
    """A loaded program; calls from several threads wait for each other.

    Args:
        method: ``forward``, with ids and mask int64 [B, L].
        is_open: whether B may be less than that of the program.
    """

    def __init__(self, method: Any, *, is_open: bool) -> None:
        batch, length = method.metadata.input_tensor_meta(0).sizes()
        self.shape = ProgramShape(length, batch, whole=not is_open)
        self._method = method
        self._lock = threading.Lock()

    def run(self, ids: Ids, mask: Mask) -> Features:
        """Features [B, L, D] of CLIP's ids [B, L], zero at padding; not-a-number for a text with an id without a row.

        Raises:
            EncoderError: not both [B, L], or longer than the program.
        """
        return self.shape.run(self._call, ids, mask)

    def _call(self, ids: Ids, mask: Mask) -> Features:
        import torch

        inputs = [torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)) for array in (ids, mask)]
        with self._lock:
            features: Features = self._method.execute(inputs)[0].numpy().copy()  # the next call writes there
        return features


def _quantize_linears(exported: "ExportedProgram", batch: int | None) -> "ExportedProgram":
    """The same program with int8 weights by output channel, and inputs that are quantized as they come."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from litetext.export.targets.program import example_inputs, open_axes

    quantizer = XNNPACKQuantizer()
    quantizer.set_module_type(torch.nn.Linear, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
    rows, length = exported.example_inputs[0][0].shape
    inputs = example_inputs(rows, length)
    prepared = prepare_pt2e(exported.module(), quantizer)
    prepared(*inputs)  # the observers of the weights look once; ranges of inputs are found while it runs
    quantized: Any = convert_pt2e(prepared)
    axes = None if batch is not None else open_axes(rows)
    return torch.export.export(quantized, inputs, dynamic_shapes=axes)
