"""SAM3's own tracker behind `Tracker`: `Sam3VideoModel` of `transformers` on any device, in constant memory.

Only this file knows how that model works inside. What it overrides, and what it does not call, is wrong or missing in
`transformers` 5.23; tests/video/test_upstream.py says of each how, and fails once it is mended there.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video
from transformers.models.sam3_video import modeling_sam3_video

from litetext.errors import EncoderError, OptionError
from litetext.features.encode import valid_rows
from litetext.features.protocol import TextFeatures
from litetext.features.ragged import pad
from litetext.sam3.host import NO_TRACKER, VIDEO_TYPE
from litetext.sam3.host_engine import detection_scores
from litetext.sam3.images import read_image
from litetext.sam3.segmenter import ImageEmbedding, Segmenter, check_prompts
from litetext.video.edges import pack_masks, unpack_masks
from litetext.video.postprocess import own_kernels, separate
from litetext.video.tracking import Frame, TrackedFrame, copy_state

video: Any = modeling_sam3_video  # not typed
memory: Any = modeling_sam3_tracker_video

FULL_SIDE, FULL_AREA = 288, 16  # SAM3 fills holes of up to 16 cells in masks of 288 x 288
FULL_DELAY, FULL_EVIDENCE = 15, 8  # SAM3 takes a track back that is wrong in 8 of its first 15 frames
# What the next frame depends on in a session of `transformers`: of each thing, of each pair of them, and the rest.
PER_THING = (
    "obj_id_to_prompt_id", "obj_id_to_score", "obj_id_to_last_occluded", "obj_first_frame_idx", "trk_keep_alive",
    "unmatched_frame_inds",
)  # fmt: skip
OWN = ("_number", "_prompts", "_next_prompt", "_seen", "_held", "_ids", "_shown")  # of `ModelTracker` itself
PAIRS = "overlap_pair_to_frame_inds"
BOOKS = (*PER_THING, "obj_ids", "max_obj_id", "output_dict_per_obj")


@dataclass(frozen=True)
class TrackerOptions:
    """How to track; an `OptionError` for a value that makes no sense."""

    threshold: float = 0.5  # detections with a score above it confirm a track; the value is SAM3's own
    new_threshold: float = 0.7  # detections that no track explains begin one from this score on; SAM3's own
    duplicate_iou: float = 0.1  # of two detections of a phrase that overlap more, the better one stays; SAM3's own
    delay: int = 0  # frames in which a track may yet be taken back; one less is held back. SAM3 has 15
    recondition_every: int | None = None  # frames; the tracker is shown sure detections; 0: never, None: as the model
    fill_area: int | None = None  # cells of a hole that is filled; None: as SAM3, in proportion to the size of masks
    unconfirmed: int = 30  # frames without a detection after which a thing is no longer shown; SAM3's own
    patience: int = 60  # frames that a thing is not shown before it is forgotten
    most_things: int = 100  # at once; those that are found last and worst are left out
    prompt_batch: int = 8  # phrases in the decoder at once
    refine_edges: bool | None = None  # masks follow the edges of the picture; None: if they are coarse (`make_masks`)

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("threshold", "new_threshold", "duplicate_iou"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} of {getattr(self, name)}", hint="give at least 0 and less than 1")
        if not 0 <= self.delay <= FULL_DELAY:
            raise OptionError(f"delay of {self.delay} frames", hint=f"give 0 to {FULL_DELAY}")
        for name in ("recondition_every", "fill_area", "patience", "unconfirmed", "most_things", "prompt_batch"):
            value, least = getattr(self, name), int(name in ("unconfirmed", "most_things", "prompt_batch"))
            if value is not None and value < least:
                raise OptionError(f"{name} of {value}", hint=f"give at least {least}")


class ModelTracker:
    """Follows things with the tracker of a video model.

    A phrase is encoded once. A frame is embedded once, and the phrases go through the detector's decoder in batches.

    Args:
        segmenter: its host is a `Sam3VideoModel`; its encoder reads the phrases.
        prompts: phrases to begin with.
        options: thresholds, delay and limits.

    Raises:
        EncoderError: the segmenter's host has no tracker.
        OptionError: what is no phrase.
    """

    def __init__(
        self, segmenter: Segmenter, prompts: str | Iterable[str] = (), options: TrackerOptions = TrackerOptions()
    ) -> None:
        if segmenter.host.config.model_type != VIDEO_TYPE:
            raise EncoderError("this model has no tracker", hint=NO_TRACKER)
        self.segmenter, self.options = segmenter, options
        self._model = _adapted(segmenter.host, options)
        self._session: Any = _Session(self._model)
        self._position: Tensor | None = None  # the places of a memory's cells: the same for all memories
        self._number = 0  # of the next frame, those that are left out not counted
        self._prompts: dict[int, str] = {}
        self._features: dict[int, Tensor] = {}
        self._next_prompt = 0
        self._seen: dict[int, int] = {}  # of each thing the last frame in which it was shown
        self._held: list[dict[str, Any]] = []  # frames that are not settled yet, as `_look` makes them
        self._ids: dict[int, int] = {}  # of each thing that was ever shown its number for the user
        self._shown = 0
        self.add(prompts)

    def add(self, prompts: str | Iterable[str]) -> None:
        """See `Tracker`."""
        for prompt in check_prompts(prompts):
            if prompt not in self._prompts.values():
                self._features[self._next_prompt] = self._encode(prompt)
                self._prompts[self._next_prompt] = prompt
                self._next_prompt += 1

    def drop(self, prompts: str | Iterable[str]) -> None:
        """See `Tracker`."""
        dropped = set(check_prompts(prompts))
        gone = {number for number, prompt in self._prompts.items() if prompt in dropped}
        for number in gone:
            del self._prompts[number], self._features[number]
        self._end([thing for thing, number in self._session.obj_id_to_prompt_id.items() if number in gone])

    def step(self, frame: Frame) -> Sequence[TrackedFrame]:
        """See `Tracker`."""
        with torch.inference_mode(), own_kernels():
            self._held.append(self._look(frame))
            self._end([thing for thing, last in self._seen.items() if self._number - last > self.options.patience])
            self._forget()
        self._number += 1
        return self._release(max(0, self.options.delay - 1))

    def finish(self) -> Sequence[TrackedFrame]:
        """See `Tracker`."""
        return self._release(0)

    def state(self) -> dict[str, Any]:
        """See `Tracker`; what it holds is never changed later."""
        session = vars(self._session)
        books = {name: session[name] for name in BOOKS} | {name: vars(self)[name] for name in OWN}
        return dict(copy_state({**books, PAIRS: [[*pair, frames] for pair, frames in session[PAIRS].items()]}))

    def restore(self, state: dict[str, Any]) -> None:
        """See `Tracker`."""
        state = copy_state(state, self._model.device)
        session = self._session = _Session(self._model)
        for name in BOOKS:
            setattr(session, name, state.pop(name))
        session.unmatched_frame_inds = defaultdict(list, session.unmatched_frame_inds)
        session.overlap_pair_to_frame_inds.update({(one, two): frames for one, two, frames in state.pop(PAIRS)})
        session.link()
        vars(self).update(state)
        self._features = {number: self._encode(prompt) for number, prompt in self._prompts.items()}

    def _encode(self, prompt: str) -> Tensor:
        """The features [L, D] of a phrase; it is read alone, so that they do not depend on when it came."""
        rows = torch.as_tensor(valid_rows(self.segmenter.encoder, [prompt])[0])
        return rows.to(self._model.device, self._model.dtype)

    def _look(self, frame: Frame) -> dict[str, Any]:
        """What is in a frame before it is settled: N things, with their masks."""
        session, model, number = self._session, self._model, self._number
        pixels = self.segmenter.processor(images=read_image(frame.pixels), return_tensors="pt")["pixel_values"]
        vision = model.detector_model.get_vision_features(pixel_values=pixels.to(model.device, model.dtype))
        found, owners = self._detect(vision, frame.pixels.shape[:2])
        before = list(session.obj_ids)
        if before or owners:
            features, positions = model.get_vision_features_for_tracker(vision_embeds=vision)
            session.cache.cache_vision_features(number, {"vision_feats": features, "vision_pos_embeds": positions})
        masks, logits = model.run_tracker_propagation(session, number, reverse=False)
        plan, books = model.run_tracker_update_planning_phase(
            session, number, False, found, masks, logits, dict(enumerate(owners))
        )
        model.run_tracker_update_execution_phase(session, number, found, plan)
        certainty = dict(zip(before, logits.float().sigmoid().tolist(), strict=True))
        certainty.update(zip(plan["new_det_obj_ids"], found["scores"][plan["new_det_out_inds"]].tolist(), strict=True))
        scores = self._keep(books, plan, found["scores"].tolist())
        at_first = SimpleNamespace(obj_ids=before)  # when the masks were made: some may be gone by now
        masks_of = model.build_outputs(at_first, found, masks, plan, plan["reconditioned_obj_ids"])
        hidden = books["extra_metadata"]["suppressed_obj_ids"][number] | plan["obj_ids_newly_removed"]
        things = [thing for thing in masks_of if thing not in hidden and bool((masks_of[thing] > 0).any())]
        self._seen = {thing: number if thing in things else self._seen.get(thing, number) for thing in session.obj_ids}
        self._take_back(plan["obj_ids_newly_removed"])
        shown = torch.cat([masks_of[thing] for thing in things] or [masks[:0]]).float().cpu().numpy()
        return {
            "index": frame.index,
            "time": frame.time,
            "size": list(frame.pixels.shape[:2]),
            "things": things,
            "prompts": [self._prompts[session.obj_id_to_prompt_id[thing]] for thing in things],
            "scores": [scores[thing] for thing in things],
            "certainty": [certainty[thing] for thing in things],
            "masks": pack_masks(frame.pixels, shown, 0.5, self.options.refine_edges),
        }

    def _detect(self, vision: Any, size: tuple[int, int]) -> tuple[dict[str, Tensor], list[int]]:
        """Detections of all phrases, as the video model exchanges them, and the phrase of each.

        They are ``mask``, logits [N, h, w], and ``scores``, float32 [N].
        """
        finest, options = vision.fpn_hidden_states[0], self.options
        kept = {name: vision[name] for name in ("fpn_hidden_states", "fpn_position_encoding")}
        embedding = ImageEmbedding(size, type(vision)(**kept))
        side = self._model.low_res_mask_size
        masks, scores, owners = [finest.new_zeros(0, side, side)], [finest.new_zeros(0).float()], list[int]()
        numbers = list(self._prompts)
        for start in range(0, len(numbers), options.prompt_batch):
            batch = numbers[start : start + options.prompt_batch]
            text = TextFeatures(*pad([self._features[number] for number in batch], like=finest))
            outputs = self.segmenter.host_engine.run_features(embedding, text)
            classes, presence = self.segmenter.calibrate(*detection_scores(outputs))
            for number, logits, sure in zip(batch, outputs.pred_masks, classes * presence, strict=True):
                keep = video.nms_masks(sure, logits, options.threshold, options.duplicate_iou)
                masks.append(logits[keep])
                scores.append(sure[keep])
                owners += [number] * int(keep.sum())
        return {"mask": torch.cat(masks), "scores": torch.cat(scores)}, owners

    def _keep(self, books: dict[str, Any], plan: dict[str, Any], scores: list[float]) -> dict[int, float]:
        """Write the books of this frame into the session; return the scores of all things.

        A thing has the score of the last detection that confirmed it.
        """
        newest: dict[int, float] = {}
        for detection, things in plan["det_to_matched_trk_obj_ids"].items():
            for thing in things:
                newest[thing] = max(newest.get(thing, 0.0), scores[detection])
        books["obj_id_to_score"].update(newest)
        for name in {*books, *books["extra_metadata"]} & {*BOOKS, PAIRS}:
            setattr(self._session, name, books[name] if name in books else books["extra_metadata"][name])
        return dict(books["obj_id_to_score"])

    def _end(self, things: Iterable[int]) -> None:
        """Follow these things no longer, and keep in the books only what later frames read."""
        session = self._session
        for thing in things:
            session.remove_object(thing)
        alive = set(session.obj_ids)
        for book in (self._seen, *(getattr(session, name) for name in PER_THING)):
            for thing in [thing for thing in book if thing not in alive]:
                del book[thing]
        pairs = session.overlap_pair_to_frame_inds
        for pair in [pair for pair in pairs if not alive.issuperset(pair)]:
            del pairs[pair]
        for frames in (*session.unmatched_frame_inds.values(), *pairs.values()):
            del frames[:-FULL_EVIDENCE]

    def _take_back(self, things: set[int]) -> None:
        """Leave things out of the frames that are held back."""
        for held in self._held if things else []:
            stay = [place for place, thing in enumerate(held["things"]) if thing not in things]
            held.update(_rows(held, stay))

    def _forget(self) -> None:
        """Drop what no later frame reads, and what only this frame read of what is kept."""
        config = self._model.tracker_model.config
        oldest = self._number + 1 - max(config.num_maskmem, config.max_object_pointers_in_encoder)
        most = max(1, config.max_cond_frame_num)  # conditioning frames that are kept whatever their age
        for place, memories in self._session.output_dict_per_obj.items():
            conditioned, others = memories["cond_frame_outputs"], memories["non_cond_frame_outputs"]
            for number in [number for number in sorted(conditioned)[:-most] if number < oldest]:
                del conditioned[number]
            for number in [number for number in others if number < oldest]:
                del others[number]
            for outputs in (conditioned, others):
                if self._number in outputs:
                    outputs[self._number] = self._compact(outputs[self._number])
            self._session.frames_tracked_per_obj[place] = {}

    def _compact(self, output: dict[str, Tensor]) -> dict[str, Tensor]:
        """What later frames read of a thing in a frame; copies, because a slice keeps the whole batch in memory."""
        self._position = output["maskmem_pos_enc"].clone() if self._position is None else self._position
        kept = {name: output[name].clone() for name in ("maskmem_features", "object_pointer")}
        return {**kept, "maskmem_pos_enc": self._position}

    def _release(self, held_back: int) -> list[TrackedFrame]:
        """The frames that are settled: all but the last ones."""
        count = max(0, len(self._held) - held_back)
        settled, self._held = self._held[:count], self._held[count:]
        tracked = [self._settle(held) for held in settled]
        known = {*self._session.obj_ids, *(thing for held in self._held for thing in held["things"])}
        self._ids = {thing: number for thing, number in self._ids.items() if thing in known}
        return tracked

    def _settle(self, held: dict[str, Any]) -> TrackedFrame:
        """A frame at its size; no two things of a phrase share a pixel, and each thing has its number."""
        masks = unpack_masks(held["masks"], held["size"])
        separate(masks, held["prompts"], held["certainty"])
        shown = np.flatnonzero(masks.any(axis=(1, 2))).tolist()
        rows = _rows(held, shown)
        for thing in rows["things"]:
            if thing not in self._ids:
                self._shown += 1
                self._ids[thing] = self._shown
        ids = np.array([self._ids[thing] for thing in rows["things"]], dtype=np.int64)
        scores = np.array(rows["scores"], dtype=np.float32)
        return TrackedFrame(held["index"], held["time"], ids, tuple(rows["prompts"]), scores, masks[shown])


def _rows(held: dict[str, Any], places: Iterable[int]) -> dict[str, list[Any]]:
    """What a frame that is held back says of the things at some places."""
    names = ("things", "prompts", "scores", "certainty", "masks")
    return {name: [held[name][place] for place in places] for name in names}


class _Session(video.Sam3VideoInferenceSession):  # type: ignore[misc]
    """What the video model writes down; it holds no frames, and ids begin at 1."""

    num_frames = 2**31  # unknown: the stock session counts the frames that it holds, and pointers would be aged by that

    def __init__(self, model: Any) -> None:
        places = dict.fromkeys(("inference_device", "inference_state_device", "video_storage_device"), model.device)
        super().__init__(dtype=model.dtype, **places)
        self.max_obj_id = 0
        self.obj_with_new_inputs: list[int] = []

    def link(self) -> None:
        """Give the things, whose books are there, their places."""
        for place, thing in enumerate(self.obj_ids):
            self._obj_id_to_idx[thing], self._obj_idx_to_id[place] = place, thing
            for book in (self.frames_tracked_per_obj, self.mask_inputs_per_obj, self.point_inputs_per_obj):
                book[place] = {}


class _Tracker(memory.Sam3TrackerVideoModel):  # type: ignore[misc]
    """The tracker of `transformers`, mended."""

    def _process_object_pointers(self, temporal_offsets: Any, pointer_tokens: list[Tensor], *args: Any) -> Any:
        """Pointers come as [1, 1, C], and stay so where memories are as wide as they are."""
        flat = [pointer.reshape(1, -1) for pointer in pointer_tokens]
        return super()._process_object_pointers(temporal_offsets, flat, *args)


class _Model(video.Sam3VideoModel):  # type: ignore[misc]
    """The video model of `transformers`, mended."""

    def _associate_det_trk(self, det_masks: Tensor, det_scores: Tensor, **rest: Any) -> Any:
        """Where no track lives, too, only sure detections begin one; and never more than there may be."""
        new, *others = super()._associate_det_trk(det_masks=det_masks, det_scores=det_scores, **rest)
        scores = det_scores.tolist()
        sure = sorted((found for found in new if scores[found] >= self.new_det_thresh), key=lambda at: -scores[at])
        return sorted(sure[: max(0, self.max_num_objects - len(rest["trk_obj_ids"]))]), *others

    def _prepare_recondition_masks(self, inference_session: Any, **found: Any) -> Any:
        """The memory encoder takes logits, not true and false; and the threshold is one of probabilities."""
        masks = {}
        for thing, detection in found["trk_id_to_max_iou_high_conf_det"].items():
            place = inference_session.obj_id_to_idx(thing)
            if found["tracker_obj_scores_global"][place].sigmoid() > self.high_conf_thresh:
                own = self.recondition_on_trk_masks
                masks[place] = (found["trk_masks"][place] if own else found["det_out"]["mask"][detection])[None].clone()
        return masks, {inference_session.obj_idx_to_id(place) for place in masks}

    def _tracker_add_new_objects(
        self, inference_session: Any, frame_idx: int, new_obj_ids: list[int], new_obj_masks: Tensor, **_: Any
    ) -> None:
        """Only new things go through the tracker: those that are there have their memory of this frame already."""
        tracker: Any = self.tracker_model
        places, outputs = [], []
        for thing, mask in zip(new_obj_ids, new_obj_masks > 0, strict=True):
            place = inference_session.obj_id_to_idx(thing)
            given = {
                "point_inputs": None,
                "mask_inputs": mask[None, None].to(inference_session.dtype),
                "reverse": False,
            }
            outputs.append(tracker._run_single_frame_inference(inference_session, frame_idx, place, 1, True, **given))
            inference_session.store_output(place, frame_idx, output_value=outputs[-1])
            places.append(place)
        masks, scores = ([output[name] for output in outputs] for name in ("high_res_masks", "object_score_logits"))
        tracker._batch_encode_memories(inference_session, frame_idx, places, masks, scores, [True] * len(places))


def _adapted(host: Any, options: TrackerOptions) -> Any:
    """The host, mended and with these options; it shares its weights, and stays as it is itself."""
    model, tracker = copy.copy(host), copy.copy(host.tracker_model)
    model.__class__, tracker.__class__ = _Model, _Tracker
    model._modules = {**host._modules, "tracker_model": tracker}
    every, area = options.recondition_every, options.fill_area
    evidence = max(1, round(options.delay * FULL_EVIDENCE / FULL_DELAY))
    settings = {
        "new_det_thresh": options.new_threshold,
        "max_num_objects": options.most_things,
        "recondition_every_nth_frame": model.recondition_every_nth_frame if every is None else every,
        "fill_hole_area": round(FULL_AREA * (model.low_res_mask_size / FULL_SIDE) ** 2) if area is None else area,
        "hotstart_delay": options.delay,
        **dict.fromkeys(("hotstart_unmatch_thresh", "hotstart_dup_thresh"), evidence),
        "suppress_unmatched_only_within_hotstart": False,
        **dict.fromkeys(("init_trk_keep_alive", "max_trk_keep_alive"), options.unconfirmed),
        "min_trk_keep_alive": 0,
    }
    vars(model).update(settings)
    return model
