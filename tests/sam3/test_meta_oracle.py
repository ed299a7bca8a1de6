"""Meta's own classes, scaled down, and what `convert_host` makes of their weights: the same boxes, masks and tracks.

Two things that `transformers` does otherwise are evened out, whatever the weights: without boxes it leaves out the
class token that Meta's geometry encoder always gives (a box that is marked as padding brings it back), and it resizes
a mask for the memory before it is made black and white, not after.
"""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("sam3")
from litetext.checkpoints.meta_host import convert_host, plan_host  # noqa: E402
from litetext.sam3.host import load_host  # noqa: E402
from tests.encoders.synthetic import save_sparse  # noqa: E402
from tests.sam3 import meta  # noqa: E402

pytestmark = [
    pytest.mark.sam3,
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # of a package that is made for CUDA
]
PHRASES = ["white dog", "a red car on the left", "zebra"]
CLOSE = 1e-4


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Meta's code does for the sake of CUDA, does nothing."""
    for name in ("pin_memory", "cuda"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)
    for name in ("arange", "zeros"):
        monkeypatch.setattr(torch, name, without_cuda(getattr(torch, name)))


def without_cuda(function: Any) -> Any:
    return lambda *args, **options: function(
        *args, **{name: "cpu" if value == "cuda" else value for name, value in options.items()}
    )


@pytest.fixture(scope="module")
def oracle() -> Any:
    return meta.build()


@pytest.fixture(scope="module")
def folder(oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("meta")
    convert_host(str(meta.save(meta.tensors(oracle), here / "sam3.pt")), here / "host", heads=meta.HEADS)
    return here / "host"


def picture() -> Any:
    return torch.randn(1, 3, meta.SIDE, meta.SIDE, generator=torch.Generator().manual_seed(1))


def found_by_meta(detector: Any, phrase: str, box: list[float] | None) -> dict[str, Any]:
    """Boxes (left, top, right, bottom), probabilities of masks, scores of one phrase; a box is center and size."""
    from sam3.model.box_ops import box_cxcywh_to_xyxy
    from sam3.model.data_misc import FindStage

    first = torch.tensor([0])
    stage = FindStage(first, first, *[None] * 5)
    prompt = detector._get_dummy_prompt()
    if box is not None:
        prompt.append_boxes(torch.tensor([[box]]), torch.tensor([[True]]))
    features = detector.backbone.forward_image(picture())
    features.update(detector.backbone.forward_text([phrase], device="cpu"))
    out = detector.forward_grounding(backbone_out=features, find_input=stage, find_target=None, geometric_prompt=prompt)
    return {
        "boxes": box_cxcywh_to_xyxy(out["pred_boxes"]),
        "masks": out["pred_masks"].sigmoid(),
        "scores": out["pred_logits"][..., 0].sigmoid() * out["presence_logit_dec"].sigmoid(),
    }


def found_by_transformers(
    model: Any, folder: Path, phrase: str, box: list[float] | None, **more: Any
) -> dict[str, Any]:
    from transformers import Sam3Processor

    text = Sam3Processor.from_pretrained(folder)(text=phrase, return_tensors="pt")
    labels = torch.tensor([[-10 if box is None else 1]])
    boxes = {"input_boxes": torch.tensor([[box or [0.0] * 4]]), "input_boxes_labels": labels} | more
    out = model(pixel_values=picture(), **text, **boxes)
    return {
        "boxes": out.pred_boxes,
        "masks": out.pred_masks.sigmoid(),
        "scores": out.pred_logits.sigmoid() * out.presence_logits.sigmoid(),
    }


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@torch.inference_mode()
def test_the_detector_finds_the_same(oracle: Any, folder: Path, on_cpu: None) -> None:
    model = load_host(folder, device="cpu")
    found = [found_by_meta(oracle.detector, phrase, None) for phrase in PHRASES]
    for phrase, want in zip(PHRASES, found, strict=True):
        assert distance(found_by_transformers(model, folder, phrase, None), want) < CLOSE
    assert distance(found[0], found[2]) > 100 * CLOSE  # phrases matter
    box = [0.4, 0.5, 0.3, 0.2]
    with_box = found_by_meta(oracle.detector, PHRASES[0], box)
    assert distance(found_by_transformers(model, folder, PHRASES[0], box), with_box) < CLOSE
    assert distance(with_box, found[0]) > 100 * CLOSE


@torch.inference_mode()
def test_transformers_leaves_a_token_out(oracle: Any, folder: Path, on_cpu: None) -> None:
    """When this fails, transformers does as Meta, and the docs (how-to/sam3.md) and this file are to be mended."""
    model = load_host(folder, device="cpu")
    plain = found_by_transformers(model, folder, PHRASES[0], None, input_boxes=None, input_boxes_labels=None)
    assert distance(plain, found_by_meta(oracle.detector, PHRASES[0], None)) > 100 * CLOSE


@torch.inference_mode()
def test_the_detector_of_sam_31_finds_the_same(tmp_path: Path, on_cpu: None) -> None:
    """Three levels, none of them dropped, as SAM 3.1 has it."""
    model = meta.build(tracker=False, levels=3)
    state = meta.tensors(model)
    neck = "detector.backbone.vision_backbone.convs."
    for other in ("interactive_convs.", "propagation_convs."):
        state |= {name.replace(".convs.", f".{other}"): value for name, value in state.items() if name.startswith(neck)}
    state["tracker.model.transformer.weight"] = torch.zeros(1)
    folder = tmp_path / "host"
    done = convert_host(str(meta.save(state, tmp_path / "sam3.1_multiplex.pt")), folder, heads=meta.HEADS)
    assert (done["model"], done["zeros"]) == ("Sam3Model", 4)
    want = found_by_meta(model.detector, PHRASES[0], None)
    assert distance(found_by_transformers(load_host(folder, device="cpu"), folder, PHRASES[0], None), want) < CLOSE


@torch.inference_mode()
def test_the_tracker_follows_in_the_same_way(oracle: Any, folder: Path, on_cpu: None) -> None:
    frames = torch.randn(4, 3, meta.SIDE, meta.SIDE, generator=torch.Generator().manual_seed(1))
    click = {"point_coords": torch.tensor([[[50.0, 60.0]]]), "point_labels": torch.ones(1, 1, dtype=torch.int32)}
    want = tracked_by_meta(oracle, frames, click)
    got = tracked_by_transformers(load_host(folder, device="cpu", video=True), frames, click)
    for (mask, score), (their_mask, their_score) in zip(got, want, strict=True):
        assert float((mask.sigmoid() - their_mask.sigmoid()).abs().max()) < CLOSE
        assert float((score.sigmoid() - their_score.sigmoid()).abs().max()) < CLOSE
    assert float((want[1][0].sigmoid() - want[3][0].sigmoid()).abs().max()) > 100 * CLOSE


def tracked_by_meta(model: Any, frames: Any, click: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Logits of the mask and of the object's presence in each frame, after a click in the first."""
    tracker = model.tracker
    encode, side = tracker._encode_new_memory, 16 * meta.GRID

    def resized_first(*, pred_masks_high_res: Any, **more: Any) -> Any:
        masks = torch.nn.functional.interpolate(pred_masks_high_res, (side, side), mode="bilinear", antialias=True)
        return encode(pred_masks_high_res=masks, **more)

    tracker.backbone, tracker._encode_new_memory = model.detector.backbone, resized_first
    outputs: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for number in range(len(frames)):
        _, features, positions, sizes = tracker._prepare_backbone_features(tracker.forward_image(frames[number, None]))
        out = tracker.track_step(
            frame_idx=number,
            is_init_cond_frame=number == 0,
            current_vision_feats=features,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            image=None,
            point_inputs=None if number else click,
            mask_inputs=None,
            output_dict=outputs,
            num_frames=len(frames),
        )
        out["maskmem_features"] = out["maskmem_features"].bfloat16().float()  # as both store it
        outputs["non_cond_frame_outputs" if number else "cond_frame_outputs"][number] = out
    del tracker._encode_new_memory
    tracker.backbone = None
    both = outputs["cond_frame_outputs"] | outputs["non_cond_frame_outputs"]
    return [(out["pred_masks"], out["object_score_logits"]) for out in both.values()]


def tracked_by_transformers(model: Any, frames: Any, click: dict[str, Any]) -> list[tuple[Any, Any]]:
    from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video as modeling

    size = {"video_height": meta.SIDE, "video_width": meta.SIDE}
    session = modeling.Sam3TrackerVideoInferenceSession(video=frames, dtype=torch.float32, **size)
    thing = session.obj_id_to_idx(1)
    session.add_point_inputs(thing, 0, {name: value[None] for name, value in click.items()})
    session.obj_with_new_inputs.append(1)
    found = []
    for number in range(len(frames)):
        seen = model.detector_model.get_vision_features(pixel_values=frames[number, None])
        features, positions = model.get_vision_features_for_tracker(vision_embeds=seen)
        session.cache.cache_vision_features(number, {"vision_feats": features, "vision_pos_embeds": positions})
        out = model.tracker_model(session, frame_idx=number)
        found.append((out.pred_masks, out.object_score_logits))
    return found


def test_the_full_size_has_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_cpu: None) -> None:
    """Names and shapes of Meta's own video model, against those of transformers."""
    from litetext.encoders.layers import meta_init
    from sam3 import model_builder

    sine = model_builder.PositionEmbeddingSine
    monkeypatch.setattr(
        model_builder, "PositionEmbeddingSine", lambda **options: sine(**options | {"precompute_resolution": None})
    )
    monkeypatch.setattr(model_builder, "SimpleTokenizer", lambda **_: None)
    linspace = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *args: linspace(*args, device="cpu"))  # whose values are asked for
    with meta_init():
        model = model_builder.build_sam3_video_model(load_from_HF=False, bpe_path="none", device="meta")
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    plan = plan_host(save_sparse(shapes, tmp_path / "full.safetensors"))
    assert (len(shapes), len(plan.entries)) == (1465, 1797)
    assert sorted(plan.left_out.values()) == [6, 32]
