"""The micro tracker: its configuration, and how its weights are joined with the detector."""

from pathlib import Path
from typing import Any

import pytest

from litetext.errors import EncoderError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from litetext.micro import tracker_model  # noqa: E402
from litetext.micro.tracker_model import join_tracker, load_video_host, micro_video_config  # noqa: E402
from litetext.sam3.host import load_host  # noqa: E402

MOST_BYTES = 2_500_000


def tensors(layers: int = 2, *, neck: bool = False) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(layers)
        model = transformers.Sam3VideoModel(micro_video_config(layers))
    parts = ("tracker_model.", "tracker_neck.") if neck else ("tracker_model.",)
    return {name: tensor.half() for name, tensor in model.state_dict().items() if name.startswith(parts)}


@pytest.fixture(scope="module")
def detector() -> Any:
    return load_host("micro", text_tower=False, device="cpu")


def test_its_weights_are_small_also_with_a_neck_and_four_layers() -> None:
    assert sum(tensor.nbytes for tensor in tensors(4, neck=True).values()) < MOST_BYTES


def test_without_a_neck_of_its_own_the_tracker_reads_through_a_copy_of_the_detectors(detector: Any) -> None:
    given = tensors()
    model = join_tracker(detector, given)
    assert isinstance(model, transformers.Sam3VideoModel)
    assert model.detector_model is detector
    assert not model.training
    neck = detector.vision_encoder.neck.state_dict()
    for name, tensor in model.tracker_neck.state_dict().items():
        assert torch.equal(tensor, neck[name])
        assert tensor.data_ptr() != neck[name].data_ptr()
    for name, tensor in model.tracker_model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, given[f"tracker_model.{name}"].float())


def test_its_own_neck_and_the_number_of_layers_are_read_from_the_weights(detector: Any) -> None:
    given = tensors(3, neck=True)
    model = join_tracker(detector, given)
    assert len(model.tracker_model.memory_attention.layers) == 3
    for name, tensor in model.tracker_neck.state_dict().items():
        assert torch.equal(tensor, given[f"tracker_neck.{name}"].float())


@pytest.mark.parametrize("part", ["tracker_model", "tracker_neck"])
def test_weights_that_do_not_fit_are_refused_in_one_line(detector: Any, part: str) -> None:
    given = tensors(neck=True)
    one = next(name for name in given if name.startswith(part))
    for wrong in (
        {name: tensor for name, tensor in given.items() if name != one},
        {**given, f"{part}.other": torch.zeros(1)},
        {**given, one: torch.zeros(1, 2, 3)},
        {**given, "detector_model.other": torch.zeros(1)},
    ):
        with pytest.raises(EncoderError) as caught:
            join_tracker(detector, wrong)
        assert "\n" not in str(caught.value)


def test_micro_is_loaded_with_the_tracker_that_comes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    monkeypatch.setattr(tracker_model, "TRACKER_FILE", file)
    with pytest.raises(EncoderError, match="this model has no tracker"):
        load_video_host("micro", device="cpu")
    save_file(tensors(), file)
    model: Any = load_video_host("micro", text_tower=False, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    file.write_bytes(b"nothing")
    with pytest.raises(EncoderError) as caught:
        load_video_host("micro", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_folder_of_an_image_model_has_no_tracker() -> None:
    from litetext.checkpoints.hub import shipped_folder

    with pytest.raises(EncoderError, match="this model has no tracker"):
        load_video_host(f"{shipped_folder('micro')}", device="cpu")
