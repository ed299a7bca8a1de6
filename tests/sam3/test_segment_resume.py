"""What is finished stays finished, whatever ends the run; and nothing of the user's is replaced."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycocotools")
from PIL import Image

from litetext.errors import OutputError
from litetext.sam3 import segment_files as files_module
from litetext.sam3.found_files import DATA, PAGE
from litetext.sam3.images import find_images
from litetext.sam3.segment_files import ANNOTATIONS, LOG, overlays_of
from litetext.storage import only_writer
from tests.sam3 import segmenting
from tests.sam3.segmenting import KINDS, FakeSegmenter, contents, run, write_pictures

ROOT = Path(__file__).parents[2]


class StopError(Exception):
    """In the middle."""


def stop() -> None:
    raise StopError


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "in")


@pytest.fixture
def whole(files: list[Path], tmp_path: Path) -> dict[str, bytes]:
    """What an uninterrupted run writes."""
    run(files, tmp_path / "whole")
    return contents(tmp_path / "whole")


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / ANNOTATIONS).read_bytes())


@pytest.mark.parametrize("fail", [stop, interrupt])
def test_stopped_in_the_middle_it_goes_on(
    fail: Any, files: list[Path], whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises((StopError, KeyboardInterrupt)):
        run(files, out, FakeSegmenter(2, fail))
    assert sorted(contents(out)) == ["0.png", "1.png", ANNOTATIONS, PAGE, "thumbnails/0.jpg", "thumbnails/1.jpg"]
    assert [Path(image["file_name"]).name for image in read(out)["images"]] == ["0.png", "1.png"]
    assert {one["image_id"] for one in read(out)["annotations"]} == {1, 2}
    with pytest.raises((StopError, KeyboardInterrupt)):
        run(files, out, FakeSegmenter(0, fail))
    assert len(read(out)["images"]) == 2  # what the first run finished, though the second one finished nothing
    rest = FakeSegmenter()
    assert run(files, out, rest)[0].resumed == rest.seen == 2
    assert contents(out) == whole
    done = FakeSegmenter()
    run(files, out, done)
    assert done.seen == 0
    assert contents(out) == whole


# Of an image a line of the journal, overlay, thumbnail, two masks, YOLO's image and label; then three files for all.
STEPS = [pytest.param(step, marks=[] if step in (1, 2, 9, 15) else pytest.mark.slow) for step in range(2 * 7 + 3)]


@pytest.mark.parametrize("step", STEPS)
def test_killed_before_each_step_it_goes_on(step: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    files = write_pictures(tmp_path / "in", 2)
    run(files, tmp_path / "whole", kinds=KINDS)
    command = [sys.executable, "-m", segmenting.__name__, str(tmp_path), str(step)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    rest = FakeSegmenter()
    job, _ = run(files, tmp_path / "out", rest, kinds=KINDS)
    finished = min(step // 7 + (step % 7 >= 2), len(files))
    assert (job.resumed, rest.seen) == (finished, len(files) - finished)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_what_is_finished(
    files: list[Path], whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, out = [], tmp_path / "out"
    write = files_module.write_overlay

    def fill(path: Path, *others: Any) -> None:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, *others)

    with monkeypatch.context() as patch:
        patch.setattr(files_module, "write_overlay", fill)
        with pytest.raises(OSError, match="No space"):
            run(files, out)
    assert len(read(out)["images"]) == 2
    assert run(files, out)[0].resumed == 2
    assert contents(out) == whole


@pytest.mark.parametrize("cut", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_line_that_was_not_finished_is_dropped(
    cut: float, files: list[Path], whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(files_module, "write_text", lambda *_: stop())  # as if it were killed
        with pytest.raises(StopError):
            run(files, out, FakeSegmenter(3, stop))
    data = (out / LOG).read_bytes()
    left = data[: round(cut * len(data))]
    (out / LOG).write_bytes(left)
    finished = max(0, left.count(b"\n") - 1)
    for file in files[finished:]:  # the line comes first
        (out / file.name).unlink(missing_ok=True)
        (out / "thumbnails" / f"{file.stem}.jpg").unlink(missing_ok=True)
    assert run(files, out)[0].resumed == finished
    assert contents(out) == whole


def test_a_changed_or_broken_image_is_looked_at_again(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(files, out)
    Image.new("RGB", (5, 5), "red").save(files[1])
    files[2].write_bytes(b"broken")
    again = FakeSegmenter()
    job, data = run(files, out, again)
    assert (again.seen, job.resumed, len(data["failures"])) == (1, 2, 1)
    assert [image["width"] for image in read(out)["images"]] == [16, 5, 16]
    assert [name for name in sorted(contents(out)) if "/" not in name] == ["0.png", "1.png", "3.png", ANNOTATIONS, PAGE]
    assert sorted(path.name for path in (out / "thumbnails").iterdir()) == ["0.jpg", "1.jpg", "3.jpg"]
    write_pictures(tmp_path / "in")
    assert run(files, out)[0].resumed == 2
    assert len(read(out)["images"]) == 4


def test_images_may_be_added(files: list[Path], whole: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(files[1:3], out)
    assert run(files, out)[0].resumed == 2
    assert contents(out) == whole


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phrases": ("dog",)}, "phrases was"),
        ({"maker": {"model": "other", "threshold": "0.5"}}, "model was fake, and is other"),
        ({"maker": {"model": "fake", "threshold": "0.5", "text": "s0"}}, "text was not given"),
        ({"maker": {"model": "fake"}}, "threshold was 0.5"),
    ],
)
def test_results_of_another_run_are_not_replaced(changes: Any, told: str, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(StopError):
        run(files, out, FakeSegmenter(2, stop))
    before = contents(out)
    with pytest.raises(OutputError, match=told):
        run(files, out, **changes)
    assert contents(out) == before


def test_results_of_images_that_are_not_asked_for_are_not_lost(files: list[Path], tmp_path: Path) -> None:
    run(files, tmp_path / "out")
    with pytest.raises(OutputError, match="results of 1 other images"):
        run(files[1:], tmp_path / "out")


@pytest.mark.parametrize("name", ["2.png", ANNOTATIONS, LOG, PAGE, DATA, "thumbnails/2.jpg"])
@pytest.mark.parametrize("content", [b"mine", b"{}", b'{"info": {}, "images": [], "annotations": []}', None])
def test_a_file_of_the_user_is_not_replaced(
    name: str, content: bytes | None, files: list[Path], tmp_path: Path
) -> None:
    out, segmenter = tmp_path / "out", FakeSegmenter()
    out.mkdir()
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).mkdir() if content is None else (out / name).write_bytes(content)
    with pytest.raises(OutputError):
        run(files, out, segmenter)
    assert segmenter.seen == 0
    assert list(contents(out)) == ([] if content is None else [name])
    assert content is None or (out / name).read_bytes() == content


def test_an_input_is_not_replaced(files: list[Path], tmp_path: Path) -> None:
    before = contents(tmp_path / "in")
    with pytest.raises(OutputError, match="would replace an image"):
        run(files[:1], tmp_path / "in")
    copy = tmp_path / "in" / "9.jpg"  # whose overlay would be 9.png
    Image.new("RGB", (4, 4)).save(copy)
    os.link(files[0], tmp_path / "in" / "9.png")  # an input under another name
    with pytest.raises(OutputError, match="would replace an image"):
        run([copy, files[0]], tmp_path / "in")
    assert {name: data for name, data in contents(tmp_path / "in").items() if name in before} == before


def test_a_second_run_is_refused_at_once(files: list[Path], tmp_path: Path) -> None:
    segmenter = FakeSegmenter()
    with only_writer(tmp_path / "out", "it"), pytest.raises(OutputError, match="another process"):
        run(files, tmp_path / "out", segmenter)
    assert segmenter.seen == 0


def test_more_kinds_of_files_may_be_asked_for_later(files: list[Path], tmp_path: Path) -> None:
    run(files, tmp_path / "whole", kinds=KINDS)
    run(files, tmp_path / "out")
    again = FakeSegmenter()
    run(files, tmp_path / "out", again, kinds=KINDS)
    assert again.seen == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    (tmp_path / "out" / "masks" / "0" / "dog-9.png").touch()  # as of an image with more masks
    write_pictures(tmp_path / "other")[3].rename(files[0])
    run(files, tmp_path / "out", kinds=KINDS)
    run(files, tmp_path / "fresh", kinds=KINDS)
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_overlays_within_the_folder_of_the_images_are_not_images(files: list[Path], tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "in" / "found"
    assert overlays_of(out) == []
    with pytest.raises(StopError):
        run(find_images([str(source)]), out, FakeSegmenter(2, stop), kinds=KINDS)
    for pattern in (str(source), str(source / "**" / "*.png")):
        assert find_images([pattern], overlays_of(out)) == files
    assert run(find_images([str(source)], overlays_of(out)), out)[0].resumed == 2


def test_a_name_that_is_not_utf8_and_one_that_is_too_long(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff\x1b.png"), "x" * 250 + ".png", "ü" * 120 + ".jpg"]
    for name in names:
        Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    _, data = run([tmp_path / name for name in names], tmp_path / "out")
    assert not data["failures"]
    written = (tmp_path / "out" / ANNOTATIONS).read_bytes()
    assert b"\\udcff\\u001b" in written
    assert [Path(image["file_name"]).name for image in json.loads(written)["images"]] == names
    assert len(list((tmp_path / "out").glob("*.png"))) == 3
    page = (tmp_path / "out" / PAGE).read_text("utf-8")
    assert 'src="thumbnails/%FF%1B.jpg"' in page
    assert "\\udcff\\x1b.png" in page
    assert run([tmp_path / name for name in names], tmp_path / "out")[0].resumed == 3
