"""A host without its tower is the host; what does not fit is refused in one line."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litetext.errors import EncoderError, MissingExtraError, OptionError
from tests.auditing.fakes import FakeEncoder
from tests.sam3.hosts import SIDE, WIDTH, save

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.sam3.adapters import encoder_of, swap_text_encoder  # noqa: E402
from litetext.sam3.host import load_host, load_processor  # noqa: E402
from litetext.sam3.segmenter import Segmenter  # noqa: E402
from tests.sam3.runs import KINDS, PHRASES, as_processor, assert_equal, exact, run  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("no_network")]

Harm = Callable[[Path], object]


@pytest.fixture
def host(host_folder: Path) -> Any:
    return exact(host_folder)


@pytest.fixture(params=KINDS, ids=["sam3", "lite", "detector of video", "video"])
def kind(request: pytest.FixtureRequest) -> tuple[str, bool]:
    name, video = request.param
    return str(request.getfixturevalue(name)), video


def test_a_host_without_its_tower_is_the_host(kind: tuple[str, bool]) -> None:
    folder, video = kind
    whole = exact(folder, video=video)
    assert type(whole).__module__.startswith("transformers")
    less = exact(folder, encoder_of(whole), video=video)
    assert type(less).__name__ == type(whole).__name__
    assert isinstance(less, type(whole))
    text = "text_encoder.", "text_projection."
    for getter in ("named_parameters", "named_buffers"):
        tensors = dict(getattr(less, getter)())
        expected = {
            name: value
            for name, value in getattr(whole, getter)()
            if not name.removeprefix("detector_model.").startswith(text)
        }
        tensors = {name: value for name, value in tensors.items() if not name.endswith("text_encoder.anchor")}
        assert list(tensors) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(tensors[name], value, atol=0, rtol=0, msg=name)
    batch = as_processor(PHRASES)
    assert_equal(run(less, **batch), run(whole, **batch))


def test_loading_equals_from_pretrained(host_folder: Path) -> None:
    expected = transformers.Sam3Model.from_pretrained(host_folder).eval().double()
    batch = as_processor(PHRASES)
    assert_equal(run(exact(host_folder), **batch), run(expected, **batch))


def test_shards_are_read(host: Any, tmp_path: Path, fake: FakeEncoder) -> None:
    folder = save(host, tmp_path / "shards", max_shard_size="300KB")
    assert (folder / "model.safetensors.index.json").is_file()
    batch = as_processor(PHRASES)
    with swap_text_encoder(host, fake):
        assert_equal(run(exact(folder, fake), **batch), run(host, **batch))


def test_a_swapped_host_is_saved_without_a_tower_and_loads_again(host: Any, fake: FakeEncoder, tmp_path: Path) -> None:
    swap_text_encoder(host, fake)
    folder = save(host, tmp_path / "less")
    batch = as_processor(PHRASES)
    assert_equal(run(exact(folder, fake), **batch), run(host, **batch))
    with pytest.raises(EncoderError, match=r"weights are missing \(text_encoder\.text_model"):
        load_host(str(folder), device="cpu")


def test_the_checkpoints_own_processor_is_read(host: Any, host_folder: Path, tmp_path: Path) -> None:
    assert load_processor(str(host_folder), host).size == {"height": SIDE, "width": SIDE}
    folder = tmp_path / "with"
    transformers.Sam3ImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.1] * 3).save_pretrained(folder)
    (folder / "config.json").write_text((host_folder / "config.json").read_text())
    assert load_processor(str(folder), host).image_mean == (0.1, 0.1, 0.1)
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(EncoderError, match="cannot load the model"):
        load_processor(str(folder), host)


def test_loading_says_nothing_and_leaves_the_settings(video_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging = transformers.utils.logging
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    capfd.readouterr()
    load_host(str(video_folder), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def change_weights(change: Callable[[dict[str, Any]], object]) -> Harm:
    def harm(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "model.safetensors"
        weights = load_file(file)
        change(weights)
        save_file(weights, file, metadata={"format": "pt"})

    return harm


def with_type(kind: str) -> Harm:
    def harm(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))

    return harm


def to_pickle(folder: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


KEY = "detr_decoder.query_embed.weight"


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json in it"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot load the model"),
        (lambda folder: (folder / "config.json").write_text("{}"), "cannot load the model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot load the model .*model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x08"), "cannot load the model"),
        (to_pickle, "cannot load the model"),
        (with_type("vit"), "a 'vit' model is not a SAM3 host"),
        (with_type("clip"), "a 'clip' model is not a SAM3 host"),
        (change_weights(lambda weights: weights.pop(KEY)), rf"1 weights are missing \({KEY}\)"),
        (
            change_weights(lambda weights: weights.update({KEY: torch.ones(3, WIDTH)})),
            rf"1 weights are of another shape \({KEY}\)",
        ),
        (
            change_weights(lambda weights: weights.update({f"extra.{i}": torch.ones(1) for i in range(7)})),
            r"7 weights are not the model's \(extra.0, extra.1, extra.2, extra.3, extra.4, ...\)",
        ),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_one_line(
    host_folder: Path, tmp_path: Path, harm: Harm, complaint: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(host_folder, folder)
    harm(folder)
    for text_tower in (True, False):
        with pytest.raises(EncoderError, match=complaint) as caught:
            load_host(str(folder), text_tower=text_tower, device="cpu")
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


def test_places_that_are_no_folder(tmp_path: Path, host_folder: Path) -> None:
    with pytest.raises(EncoderError, match="not a model folder but a file"):
        load_host(str(host_folder / "config.json"), device="cpu")
    for name in ("./some/model", "../model", "a/b/c", str(tmp_path / "none")):
        with pytest.raises(EncoderError, match="no such"):
            load_host(name, device="cpu")
    with pytest.raises(EncoderError, match=r"hub was not reached, nobody/nothing") as caught:
        load_host("nobody/nothing", device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(EncoderError, match="this model has no tracker"):
        load_host(str(host_folder), video=True, device="cpu")
    with pytest.raises(OptionError, match="toaster"):
        load_host(str(host_folder), device="toaster")


def test_a_gated_model_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def refuse(*_: Any, **__: Any) -> None:
        # The exception wants a response of the hub's HTTP client, whichever that is; nothing reads it here.
        raise OSError("You are trying to access a gated repo.") from GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: None)  # it is there
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(EncoderError, match=r"the model is gated, facebook/sam3; accept the license .* 'hf auth login'"):
        load_host("facebook/sam3", device="cpu")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match="a SAM3 model needs the extra 'sam3'"):
        load_host("any/thing")


def test_a_path_object_will_do(host_folder: Path) -> None:

    assert Segmenter.from_pretrained(host_folder, device="cpu").encoder.width == WIDTH
