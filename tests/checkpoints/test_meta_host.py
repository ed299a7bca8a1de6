"""Meta's `sam3.pt` becomes a folder of transformers, tensor by tensor, or an error that names the tensor."""

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from litetext.errors import EncoderError, OutputError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from litetext.checkpoints import meta_host  # noqa: E402
from litetext.checkpoints.formats import writable  # noqa: E402
from litetext.checkpoints.inspection import summarize_checkpoint  # noqa: E402
from litetext.checkpoints.meta_host import convert_host, plan_host  # noqa: E402
from litetext.checkpoints.meta_names import Origin, origin_of  # noqa: E402
from litetext.checkpoints.schema import tensor_shapes  # noqa: E402
from litetext.checkpoints.tensors import open_tensors  # noqa: E402
from litetext.checkpoints.writer import convert_checkpoint  # noqa: E402
from litetext.cli import run  # noqa: E402
from litetext.encoders.config import PRESETS  # noqa: E402
from litetext.encoders.layers import meta_init  # noqa: E402
from litetext.sam3.host import load_host, load_processor  # noqa: E402
from tests.encoders.synthetic import save_pt, save_safetensors, save_sparse  # noqa: E402
from tests.sam3.hosts import save, video_config  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("tidy")]
State = dict[str, Any]
TEXT = re.compile(r"model\.text_(encoder|projection)\.")
TRUNK = "detector.backbone.vision_backbone."
NORM = "detector.transformer.encoder.layers.0.norm2.weight"


def as_meta(values: State, origin: Origin, tensor: Any) -> None:
    """Put a tensor of transformers where Meta has it."""
    name = origin.names[0]
    if isinstance(origin.change, int):
        whole = values.setdefault(name, torch.zeros(origin.shapes(tensor.shape)[0]))
        whole.chunk(3)[origin.change].copy_(tensor)
    elif origin.change == "patches":
        values[name] = torch.cat([torch.full_like(tensor[:, :1], 9.0), tensor], dim=1)
    else:
        values.update(zip(origin.names, (part.clone() for part in tensor.chunk(len(origin.names))), strict=True))


@pytest.fixture(scope="module")
def small() -> Any:
    config = video_config()
    config["detector_config"]["text_config"]["intermediate_size"] = 64  # four times the width, as in all encoders
    torch.manual_seed(0)
    model = transformers.Sam3VideoModel(transformers.Sam3VideoConfig(**config, image_size=112))
    tracker = model.tracker_model  # which has one matrix twice
    tracker.shared_image_embedding.load_state_dict(tracker.prompt_encoder.shared_embedding.state_dict())
    return model


@pytest.fixture(scope="module")
def video(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small, tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def original(small: Any, video: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The tensors of a small host as Meta's file has them."""
    text = tmp_path_factory.mktemp("text") / "text.pt"
    convert_checkpoint(str(video), text, "upstream")
    state: State = dict(torch.load(text, weights_only=True)["model"])
    for name, tensor in small.state_dict().items():
        if not TEXT.search(name):
            as_meta(state, origin_of(name), tensor)
    for number, rows in enumerate((16, 64)):  # a window of 4 x 4 patches, and the image of 8 x 8
        state[f"{TRUNK}trunk.blocks.{number}.attn.freqs_cis"] = torch.zeros(rows, 8, dtype=torch.complex64)
    state["detector.geometry_encoder.points_direct_project.weight"] = torch.zeros(64, 2)
    return state


def of_31(state: State) -> State:
    """As SAM 3.1 has it: three levels, necks and classes of its own for the tracker."""
    changed = {name: value for name, value in state.items() if not name.startswith((f"{TRUNK}convs.3", "tracker."))}
    for name in [name for name in changed if ".sam2_convs." in name]:
        value = changed.pop(name)
        if ".sam2_convs.3." not in name:
            for neck in ("interactive_convs", "propagation_convs"):
                changed[name.replace("sam2_convs", neck)] = value
    return changed | {"tracker.model.multiplex_controller.weight": torch.zeros(2)}


def weights(folder: Path) -> State:
    source = open_tensors(folder)
    return dict(source.read(source.entries))


def test_every_tensor_is_where_it_was(small: Any, original: State, tmp_path: Path) -> None:
    target = tmp_path / "host"
    done = convert_host(str(save_pt(original, tmp_path / "sam3.pt")), target, heads=2)
    want, got = small.state_dict(), weights(target)
    assert done["tensors"] == len(got)
    assert done["parameters"] == sum(value.numel() for value in got.values())
    assert sorted(done["left_out"].values()) == [1, 2]
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], value) for name, value in want.items())
    model = load_host(target, device="cpu", video=True)
    assert type(model).__name__ == done["model"] == "Sam3VideoModel"
    vision = small.config.detector_config.vision_config.backbone_config.to_dict()
    backbone = model.config.detector_config.vision_config.backbone_config
    assert backbone.to_dict() == vision
    assert (backbone.window_size, backbone.global_attn_indexes, backbone.image_size) == (4, [1], 112)
    assert load_processor(target, model).size["height"] == 112
    assert transformers.Sam3Processor.from_pretrained(target)(text="a dog").input_ids[:3] == [49406, 320, 1929]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_files_of_other_types_and_prefixes(original: State, tmp_path: Path, dtype: str) -> None:
    """Copies of the weights as safetensors, in half precision, under the names of Meta's own training code."""
    prefixes = {"detector.": "model.sam3_model.", "tracker.": "model.sam2_predictor.model."}
    number = getattr(torch, dtype)
    state = {
        re.sub(r"^(detector|tracker)\.", lambda found: prefixes[found[0]], name): value
        if value.is_complex()
        else value.to(number)
        for name, value in original.items()
    }
    convert_host(str(save_safetensors(state, tmp_path / "copy.safetensors")), tmp_path / "host", heads=2)
    got = weights(tmp_path / "host")
    assert {value.dtype for value in got.values()} == {number}
    norm = "detector_model.detr_encoder.layers.0.layer_norm2.weight"
    assert torch.equal(got[norm], original[NORM].to(number))


def test_the_command(original: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["convert", str(save_pt(original, tmp_path / "sam3.pt")), "--host", "--heads", "2", "-o"]
    assert run([*command, str(tmp_path / "host")]) == 0
    assert "left out: 2 tensors (rotary angles" in capsys.readouterr().out
    assert run([*command, str(tmp_path / "again"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "Sam3VideoModel"
    assert run([*command, str(tmp_path)]) == 1


def test_without_a_tracker_it_is_an_image_model(original: State, tmp_path: Path) -> None:
    state = {
        name.removeprefix("detector."): value for name, value in original.items() if not name.startswith("tracker")
    }
    done = convert_host(str(save_pt(state, tmp_path / "image.pt", wrapped=False)), tmp_path / "host", heads=2)
    assert done["model"] == type(load_host(tmp_path / "host", device="cpu")).__name__ == "Sam3Model"
    assert sum(done["left_out"].values()) == 3 + sum(".sam2_convs." in name for name in state)


def test_the_detector_of_sam_31(original: State, tmp_path: Path) -> None:
    path = save_pt(of_31(original), tmp_path / "multiplex.pt")
    done = convert_host(str(path), tmp_path / "host", heads=2)
    got = weights(tmp_path / "host")
    made = [name for name in got if "fpn_layers.3" in name]
    assert done["model"] == type(load_host(tmp_path / "host", device="cpu")).__name__ == "Sam3Model"
    assert done["zeros"] == len(made) == 4
    assert not any(got[name].any() for name in made)
    assert torch.equal(got["vision_encoder.neck.fpn_layers.2.proj1.bias"], original[f"{TRUNK}convs.2.conv_1x1.bias"])
    assert summarize_checkpoint(path)["sam"] == "3.1"


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (without(NORM), [f"missing (1): {NORM}"]),
        (without(f"{TRUNK}trunk.blocks.1.attn.freqs_cis"), ["missing: ", "blocks.1.attn.freqs_cis"]),
        (without(f"{TRUNK}trunk.pos_embed"), ["missing: ", "pos_embed"]),
        (without("tracker.maskmem_tpos_enc"), ["missing: tracker.maskmem_tpos_enc"]),
        (without("tracker.no_mem_embed"), ["missing: tracker.no_mem_embed"]),
        (without("detector.backbone.language_backbone.resizer.bias"), ["missing (1)", "resizer.bias"]),
        (lambda state: {**state, "detector.more.weight": torch.zeros(1)}, ["unexpected (1): detector.more.weight"]),
        (lambda state: {**state, "optimizer.step": torch.zeros(1)}, ["unexpected (1): optimizer.step"]),
        (
            lambda state: without(NORM)({**state, NORM.replace("norm2", "norm9"): state[NORM]}),
            [f"missing (1): {NORM}", "unexpected (1)", "norm9"],
        ),
        (lambda state: {**state, NORM: torch.zeros(3)}, [f"wrong (1): {NORM} is [3]", "not [64]"]),
        (lambda state: {**state, NORM: state[NORM].long()}, ["wrong (1)", "int64"]),
        (lambda state: {**state, NORM: state[NORM] * float("nan")}, ["NaN", NORM]),
        (lambda state: {**state, f"{TRUNK}trunk.pos_embed": torch.zeros(3)}, ["pos_embed is [3]"]),
        (lambda state: {**of_31(state), f"{TRUNK}convs.4.x": torch.zeros(1)}, ["unexpected (1)", "convs.4.x"]),
    ],
)
def test_what_does_not_fit_is_named(
    original: State, tmp_path: Path, change: Callable[[State], State], parts: list[str]
) -> None:
    path = save_pt(change(original), tmp_path / "sam3.pt", wrapped=False)
    with pytest.raises(EncoderError) as caught:
        convert_host(str(path), tmp_path / "host", heads=2)
    assert all(part in str(caught.value) for part in [*parts, "sam3.pt"]), str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["sam3.pt"]


def test_other_files_are_refused(video: Path, original: State, tmp_path: Path) -> None:
    path = save_pt(original, tmp_path / "sam3.pt")
    truncated = tmp_path / "half.pt"
    truncated.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    text = {name: value for name, value in original.items() if "language_backbone" in name}
    cases = {
        str(truncated): "truncated",
        str(save_pt(text, tmp_path / "text.pt")): "only the text side",
        "micro-student": "only Meta's SAM3 becomes a host",
        str(video): "already",
    }
    for spec, part in cases.items():
        with pytest.raises(EncoderError, match=part):
            convert_host(spec, tmp_path / "host", heads=2)
    with pytest.raises(EncoderError, match="heads"):
        convert_host(str(path), tmp_path / "host")
    assert not (tmp_path / "host").exists()


def test_only_its_own_folder_is_replaced(original: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = save_pt(original, tmp_path / "sam3.pt"), tmp_path / "host"
    convert_host(str(path), target, heads=2)
    convert_host(str(path), target, heads=2)  # once more, in its place

    def full(*_: object) -> Iterator[None]:
        raise OSError(errno.ENOSPC, "no space left on device")

    before = (target / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(meta_host, "write_tensors", full)
        with pytest.raises(OSError, match="no space"):
            convert_host(str(path), target, heads=2)
    assert (target / "model.safetensors").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["host", "sam3.pt"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="something else"):
        convert_host(str(path), target, heads=2)
    (target / "notes.txt").unlink()
    save(load_host(target, device="cpu", video=True), target)  # trained further, say
    with pytest.raises(OutputError, match="something else"):
        convert_host(str(path), target, heads=2)
    with pytest.raises(OutputError):
        convert_host(str(path), tmp_path, heads=2)


def test_the_released_sizes_give_the_configuration_of_transformers(tmp_path: Path) -> None:
    """Full size, by shapes alone: a file of zeros that takes no room, and a model without memory."""
    with meta_init():
        model = transformers.Sam3VideoModel(transformers.Sam3VideoConfig())
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        if not TEXT.search(name):
            origin = origin_of(name)
            shapes.update(zip(origin.names, origin.shapes(tuple(tensor.shape)), strict=True))
    teacher = replace(PRESETS["teacher"], projection=512)
    ours = tensor_shapes(teacher)
    for rule in writable("upstream", "teacher").rules(teacher.block_kinds):
        below = rule.below("detector.")
        shapes.update(zip(below.theirs, rule.change.shapes(ours[rule.ours]), strict=True))
    plan = plan_host(save_sparse(shapes, tmp_path / "full.safetensors"))
    assert {name: entry.shape for name, entry in plan.entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    want, got = transformers.Sam3VideoConfig().to_dict(), plan.model.config.to_dict()
    assert got == want


CODE = """
import re, sys
from pathlib import Path
from litetext.checkpoints.meta_host import convert_host

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

small, large, folder = sys.argv[1:]
convert_host(small, Path(folder) / "small", heads=2)
before = peak()
convert_host(large, Path(folder) / "large", heads=2)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_file_is_never_in_memory(original: State, tmp_path: Path) -> None:
    """0.8 GB, in 24 blocks of the image encoder."""
    wide = {name: value for name, value in original.items() if ".trunk.blocks." in name}
    state = without(f"{TRUNK}trunkx")(original)
    hidden = 2**17
    for number in range(24):
        for name, value in wide.items():
            if ".blocks.1." in name:
                state[name.replace(".blocks.1.", f".blocks.{number}.")] = value
        block = f"{TRUNK}trunk.blocks.{number}.mlp."
        for name, shape in {"fc1.weight": (hidden, 32), "fc1.bias": (hidden,), "fc2.weight": (32, hidden)}.items():
            state[block + name] = torch.zeros(shape)
    little, large = save_pt(original, tmp_path / "sam3.pt"), save_pt(state, tmp_path / "large.pt")
    del state
    command = [sys.executable, "-c", CODE, str(little), str(large), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert large.stat().st_size > 0.75e9
    assert int(done.stdout) < 0.55 * large.stat().st_size
