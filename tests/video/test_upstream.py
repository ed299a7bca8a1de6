"""What is wrong or missing in the video model of `transformers`: a test that fails says that it has been mended there.

Then the workaround in video/tracker.py (or in micro/tracker_model.py, for the configuration) can go.
"""

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import Sam3TrackerVideoConfig, Sam3VideoModel  # noqa: E402
from transformers.modeling_outputs import BaseModelOutputWithPooling  # noqa: E402
from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video as memory  # noqa: E402
from transformers.models.sam3_video import modeling_sam3_video as video  # noqa: E402

from litetext.micro.tracker_model import micro_video_config  # noqa: E402

SIDE, SIZE = 64, 160


@pytest.fixture(scope="module")
def model() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Sam3VideoModel(micro_video_config()).eval()


@pytest.fixture
def stock(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The model as `transformers` has it, but that it finds nothing to begin with; it does not look for kernels."""
    monkeypatch.setattr(video, "cv_utils_kernel", False)
    for name, value in {"score_threshold_detection": 1.0, "hotstart_delay": 0}.items():
        monkeypatch.setitem(vars(model), name, value)
    with torch.inference_mode():
        yield model


@pytest.fixture
def session() -> Any:
    """One phrase of four tokens, no frame."""
    session = video.Sam3VideoInferenceSession(dtype=torch.float32)
    place = session.add_prompt("red car")
    session.prompt_embeddings[place] = BaseModelOutputWithPooling(pooler_output=torch.ones(1, 4, SIDE))
    session.prompt_attention_masks[place] = torch.ones(1, 4, dtype=torch.bool)
    return session


def square(level: float = 5.0) -> Any:
    """Logits of a square, [1, 64, 64]."""
    mask = torch.full((1, SIDE, SIDE), -5.0)
    mask[:, 20:40, 20:40] = level
    return mask


def begin(model: Any, session: Any, things: int, frame: int = 0) -> None:
    """Let a session see a frame and begin to follow things there, as the stock model does it."""
    see(model, session, frame)
    ids = list(range(things))
    session.obj_id_to_prompt_id.update(dict.fromkeys(ids, 0))
    model._tracker_add_new_objects(session, frame, ids, square().expand(things, -1, -1))


def see(model: Any, session: Any, frame: int) -> None:
    """Let a session see a frame."""
    session.add_new_frame(torch.rand(3, SIZE, SIZE), frame)
    vision = model.detector_model.get_vision_features(pixel_values=session.get_frame(frame)[None])
    features, places = model.get_vision_features_for_tracker(vision_embeds=vision)
    session.cache.cache_vision_features(frame, {"vision_feats": features, "vision_pos_embeds": places})


@pytest.fixture
def flat_pointers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Get over the first of the faults, where others are looked for."""
    stock = memory.Sam3TrackerVideoModel._process_object_pointers

    def process(self: Any, offsets: Any, pointers: list[Any], *args: Any) -> Any:
        return stock(self, offsets, [pointer.reshape(1, -1) for pointer in pointers], *args)

    monkeypatch.setattr(memory.Sam3TrackerVideoModel, "_process_object_pointers", process)


def test_pointers_as_wide_as_memories_keep_four_dimensions(stock: Any, session: Any) -> None:
    begin(stock, session, 1)
    see(stock, session, 1)
    with pytest.raises(RuntimeError, match="dimensions"):
        stock.run_tracker_propagation(session, 1, reverse=False)


def test_memory_attention_reads_64_numbers_whatever_the_configuration_says() -> None:
    config = Sam3TrackerVideoConfig(memory_encoder_output_channels=32)
    assert memory.Sam3TrackerVideoMemoryAttentionLayer(config).cross_attn_image.kv_in_dim == 64


def test_the_default_dtype_of_a_session_is_a_string_that_no_tensor_takes() -> None:
    with pytest.raises((TypeError, RuntimeError)):
        video.Sam3VideoInferenceSession().add_new_frame(torch.zeros(3, 8, 8))


def test_without_kernels_duplicates_and_holes_stay(stock: Any) -> None:
    twins, holed = square().expand(2, -1, -1), square()
    holed[:, 30, 30] = -5.0
    assert video.nms_masks(torch.tensor([0.9, 0.8]), twins, 0.5, 0.1).tolist() == [True, True]
    assert video.fill_holes_in_mask_scores(holed[None], max_area=16)[0, 0, 30, 30] == -5.0


def test_where_no_track_lives_any_detection_begins_one(stock: Any) -> None:
    none = torch.empty(0, dtype=torch.long)
    scores = torch.tensor([stock.new_det_thresh - 0.1])
    new, *_ = stock._associate_det_trk(square(), scores, torch.zeros(0, SIDE, SIDE), [], none, none)
    assert new == [0]


def test_masks_of_the_detector_reach_memory_as_true_and_false(stock: Any, session: Any) -> None:
    begin(stock, session, 1)
    masks, _ = stock._prepare_recondition_masks(session, 0, {"mask": square()}, square(), {0: 0}, torch.tensor([9.0]))
    assert masks[0].dtype == torch.bool


def test_a_logit_is_compared_with_a_probability(stock: Any, session: Any) -> None:
    begin(stock, session, 1)
    logit = torch.tensor([stock.high_conf_thresh + 0.1])
    assert logit.sigmoid() < stock.high_conf_thresh
    _, things = stock._prepare_recondition_masks(session, 0, {"mask": square()}, square(), {0: 0}, logit)
    assert things == {0}


def test_a_stream_that_drops_old_frames_divides_by_zero(stock: Any, session: Any, flat_pointers: None) -> None:
    begin(stock, session, 1)
    session.processed_frames.clear()
    output = stock(session, frame=torch.rand(3, SIZE, SIZE), frame_idx=1)
    assert torch.tensor(list(output.obj_id_to_tracker_score.values())).isnan().all()


def test_of_a_batch_the_best_masks_are_taken_as_often_as_there_are_things(stock: Any) -> None:
    features = [torch.zeros(2, width, side, side) for width, side in ((8, 64), (16, 32), (64, 16))]
    output = stock.tracker_model._single_frame_forward(image_embeddings=features, multimask_output=True)
    assert output.pred_masks.shape[:2] == (2, 2)  # (2, 1) would be right


def test_the_tracker_gives_no_gradient(model: Any, session: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(video, "cv_utils_kernel", False)
    begin(model, session, 1)
    session.obj_with_new_inputs = [0]
    assert model.tracker_model(inference_session=session, frame_idx=0).pred_masks.is_inference()


def test_the_scores_of_every_frame_are_kept_and_copied(stock: Any, session: Any) -> None:
    for _ in range(3):
        stock(session, frame=torch.rand(3, SIZE, SIZE))
    assert len(session.obj_id_to_tracker_score_frame_wise) == len(session.processed_frames) == 3


def test_the_pointers_of_all_conditioning_frames_are_read(stock: Any, session: Any) -> None:
    frames = {frame: {"object_pointer": torch.zeros(1, SIDE)} for frame in range(40)}
    session.output_dict_per_obj[0] = {"cond_frame_outputs": frames, "non_cond_frame_outputs": {}}
    assert len(stock.tracker_model._get_object_pointers(session, 0, 40, 41, torch.device("cpu"))[0]) == 40


def test_ids_begin_elsewhere_after_a_reset(session: Any) -> None:
    before = session.max_obj_id
    session.reset_state()
    assert (before, session.max_obj_id) == (-1, 0)


def test_new_phrases_take_the_number_of_old_ones() -> None:
    session = video.Sam3VideoInferenceSession(dtype=torch.float32)
    session.add_prompt("one")
    session.add_prompt("two")
    del session.prompts[0]
    assert session.add_prompt("three") == 1
    assert list(session.prompts.values()) == ["three"]


def test_when_a_thing_is_taken_back_the_next_one_gets_its_mask(stock: Any, session: Any, monkeypatch: Any) -> None:
    begin(stock, session, 2)
    masks = torch.stack([torch.full((SIDE, SIDE), float(thing)) for thing in range(2)])
    plan = {"new_det_out_inds": [], "new_det_obj_ids": [], "obj_ids_newly_removed": {0}, "reconditioned_obj_ids": set()}
    books = {"obj_id_to_score": {}, "obj_id_to_tracker_score_frame_wise": {1: {}}}
    monkeypatch.setattr(stock, "run_tracker_propagation", lambda **_: (masks, torch.zeros(2)))
    monkeypatch.setattr(stock, "run_tracker_update_planning_phase", lambda **_: (plan, books))
    session.add_new_frame(torch.rand(3, SIZE, SIZE), 1)
    masks_of = stock._det_track_one_frame(session, 1, reverse=False)[0]
    assert {thing: float(mask.max()) for thing, mask in masks_of.items()} == {1: 0.0}


def test_a_new_thing_makes_all_others_be_remembered_again(stock: Any, session: Any, flat_pointers: None) -> None:
    begin(stock, session, 1)
    see(stock, session, 1)
    stock.run_tracker_propagation(session, 1, reverse=False)
    stock._tracker_update_memories(session, 1, square())
    first = session.output_dict_per_obj[0]["non_cond_frame_outputs"][1]["maskmem_features"].clone()
    stock._tracker_add_new_objects(session, 1, [1], square())
    again = session.output_dict_per_obj[0]["non_cond_frame_outputs"][1]["maskmem_features"]
    assert not torch.equal(first, again)


def test_a_new_thing_begins_without_the_cells_of_which_the_detector_is_barely_sure(stock: Any, session: Any) -> None:
    see(stock, session, 0)
    session.obj_id_to_prompt_id[0] = 0
    stock._tracker_add_new_objects(session, 0, [0], square(0.3))
    assert not session.mask_inputs_per_obj[0][0].any()


def test_what_a_session_keeps_grows_for_ever(stock: Any, session: Any, flat_pointers: None) -> None:
    begin(stock, session, 1)
    for frame in range(1, 4):
        see(stock, session, frame)
        stock.run_tracker_propagation(session, frame, reverse=False)
        stock._tracker_update_memories(session, frame, square())
    outputs = session.output_dict_per_obj[0]["non_cond_frame_outputs"]
    assert len(outputs) == 3
    assert outputs[1]["high_res_masks"].shape[-2:] == (SIZE, SIZE)  # read once, in its own frame
