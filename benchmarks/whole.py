"""`litetext bench --whole` on the micro model: PyTorch, ONNX Runtime and OpenVINO, warm and as a cold command.

    python -m benchmarks whole [--quick | OPTIONS OF LITETEXT BENCH]

Rows take turns in five rounds; figures are medians, ratios are to the best of PyTorch's rows within a round. OpenVINO
runs an export of the model that is made here.
"""

import sys
import tempfile
from pathlib import Path

from litetext.cli import run
from litetext.errors import LiteTextError

QUICK = ("--backends", "onnx", "--threads", "1", "--rounds", "1", "--seconds", "0.001")  # whether it runs


def export_openvino(folder: Path) -> list[str]:
    """The folder of an export for OpenVINO; nothing where a package for it is missing."""
    try:
        import openvino  # noqa: F401

        from litetext.export.segment_exporter import export_segmenter
        from litetext.sam3.segmenter import Segmenter

        segmenter = Segmenter.from_pretrained("micro", device="cpu")
        export_segmenter(segmenter, folder, ["red car"], target="openvino", name="micro")
    except (ImportError, LiteTextError) as error:
        print(f"OpenVINO is left out: {error}", file=sys.stderr)
        return []
    return ["--whole", str(folder)]


def main() -> None:
    """Measure and print JSON."""
    given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        quick = given == ["--quick"]
        models = ["--whole", "micro", *([] if quick else export_openvino(Path(folder) / "micro-exported"))]
        sys.exit(run(["bench", *models, "--rounds", "5", "--json", *(QUICK if quick else given)]))


if __name__ == "__main__":
    main()
