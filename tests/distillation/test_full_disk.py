"""A full disk during `litetext embed` and `litetext distill`: one line, nothing lost, and with room they go on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import torch

from litetext.cli import run
from litetext.distillation.train import Trainer
from litetext.features.store import FeatureStore
from tests.cli.helpers import failure
from tests.distillation.corpora import files_of
from tests.distillation.disks import clear, fill, small_disk
from tests.distillation.runs import RECIPE, assert_same, make_cache
from tests.distillation.test_kill import arguments

__all__ = ["arguments"]  # a fixture
pytestmark = pytest.mark.torch
BLOCK = 4096


def test_embed_at_every_block(capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path) -> None:
    assert run([*arguments, "-o", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    whole = files_of(tmp_path / "whole")
    blocks = sum(-(-len(data) // BLOCK) for data in whole.values())
    kept = []
    with small_disk(tmp_path / "disk", 2**20) as disk:
        for left in range(blocks + 1):  # one more is needed, for the next manifest beside the last
            out = disk / str(left)
            command = [*arguments, "-o", str(out)]
            fill(disk, left * BLOCK)
            error = failure(capsys, *command)
            clear(disk)
            assert "no space left on device" in error
            assert str(out) in error
            assert "fix that and run it again: finished shards are kept" in error
            left_over = files_of(out)
            assert left_over.items() - whole.items() == {
                (name, data) for name, data in left_over.items() if name == "manifest.json"
            }
            shards = [out / name for name in FeatureStore.open(out).shards] if left_over else []
            kept.append(len(shards))
            before = [path.stat().st_ino for path in shards]
            assert run(command) == 0
            capsys.readouterr()
            assert files_of(out) == whole
            assert [path.stat().st_ino for path in shards] == before  # not written again
            for path in out.iterdir():
                path.unlink()
    assert kept == sorted(kept)
    assert set(kept) == set(range(len(whole) - 1))  # each number of shards but all


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A command without its folder, and the folder of a run that was never stopped."""
    root = tmp_path_factory.mktemp("undisturbed")
    (root / "tiny.toml").write_text(RECIPE)
    cache = make_cache(root / "features")
    command = ["distill", str(root / "tiny.toml"), "--features", str(cache), "--epochs", "2", "--device", "cpu"]
    assert run([*command, "-o", str(root / "whole")]) == 0
    return command, root / "whole"


# What of the run is there when the disk is full: the first checkpoint takes 0.4 MB, the next 0.9, a student 0.6.
# Three steps are an epoch, and there is a checkpoint every two.
@pytest.mark.parametrize(
    ("when", "kept"),
    [
        (("begin", 2e5), None),  # the first checkpoint does not fit
        (("begin", 8e5), 0),  # the first student
        (("begin", 1.3e6), 0),  # the second checkpoint beside the first
        (("step 2", 0), 2),
        (("step 2", 7e5), 2),  # the student fits, the checkpoint does not
        (("step 3", 0), 3),
        (("report", 0), 6),
    ],
)
def test_distill_wherever_it_happens(
    capsys: pytest.CaptureFixture[str],
    undisturbed: tuple[list[str], Path],
    tmp_path: Path,
    when: tuple[str, float],
    kept: int | None,
) -> None:
    (arguments, whole), (before, left) = undisturbed, when
    with small_disk(tmp_path / "disk", 2**24) as disk:
        command = [*arguments, "-o", str(disk / "run")]
        with pytest.MonkeyPatch.context() as patch:
            fill_before(patch, before, lambda: fill(disk, int(left)))
            assert run(command) == 1
            error = capsys.readouterr().err.splitlines()[-1]  # after what was told of each epoch
            assert error.startswith("error: ")
        assert "no space left on device" in error
        assert f"{disk / 'run'}; fix that and run it again: the last checkpoint is whole" in error
        assert not list((disk / "run").glob(".*"))
        if kept is None:
            assert not list((disk / "run").iterdir())
        else:
            assert torch.load(disk / "run" / "last.ckpt", weights_only=True)["progress"]["step"] == kept
        clear(disk)
        assert run(command) == 0
        assert_same(disk / "run", whole)
        assert {path.name for path in (disk / "run").iterdir()} == {path.name for path in whole.iterdir()}


def fill_before(patch: pytest.MonkeyPatch, what: str, act: Callable[[], None]) -> None:
    """Act once, before a run begins, before its step of a number (from 0), or before its report."""
    name, _, number = what.partition(" ")
    method = {"begin": "begin", "step": "take_step", "report": "report"}[name]
    real = getattr(Trainer, method)

    def do(self: Trainer, *arguments: Any) -> Any:
        if not number or self.state.progress.step == int(number):
            act()
        return real(self, *arguments)

    patch.setattr(Trainer, method, do)
