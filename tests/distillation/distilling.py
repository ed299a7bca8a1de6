"""Runs `litetext distill` in forks of this process and kills them; prints one JSON object.

    python -m tests.distillation.distilling FOLDER ARGUMENT ...

Each run is killed with SIGKILL just before a file is made durable, when the temporary file is there by then, or before
it is renamed. Then the command runs again, to the end.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.distillation.killing import run_and_die


def main() -> None:
    root, arguments = Path(sys.argv[1]), sys.argv[2:]
    status = run_and_die([*arguments, "-o", str(root / "whole")], None)
    assert status == 0
    told = []
    for steps in (7, 19):
        command = [*arguments, "-o", str(root / f"killed {steps}")]
        killed = run_and_die(command, steps)
        left = sorted(path.name for path in (root / f"killed {steps}").iterdir())
        told.append(
            {
                "folder": f"killed {steps}",
                "killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL,
                "left": left,
                "status": run_and_die(command, None),
            }
        )
    sys.stdout.write(json.dumps(told))


def import_everything() -> None:
    """Once, before the forks; without a gradient, after which PyTorch would refuse to fork."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import torch

    import litetext.distillation.train  # noqa: F401
    from litetext.tokenizer.bpe import clip_tokenizer

    clip_tokenizer().encode(["dog"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    torch.optim.AdamW([parameter]).step()


if __name__ == "__main__":
    import_everything()
    main()
