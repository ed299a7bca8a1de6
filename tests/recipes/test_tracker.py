"""The training of the micro tracker: its frames are those of `transformers`, its runs resume to the same weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes.micro.forward import normalize_pixels
from recipes.tracker.training import CHECKPOINT, Stage, TrackerRecipe, begin, ious, save_weights, train
from recipes.tracker.unrolled import follow, track_losses
from recipes.tracker.windows import WindowOptions, WindowStream, damage

from litetext.errors import OptionError
from litetext.micro.clips import MIN_PIXELS
from litetext.video.tracker import TrackerOptions, _adapted, _Session

SMALL = WindowOptions(2, 2)
RECIPE = TrackerRecipe(stages=(Stage(4, 1e-3, SMALL, warmup_steps=1),), validate_every=0, save_every=1)


def test_windows_are_those_of_their_seed_and_begin_with_something_to_follow() -> None:
    stream = WindowStream(3, WindowOptions(4, 5, damaged=1.0, strides=(1, 2)))
    windows, again = stream[7], stream[7]
    assert windows.masks.shape == windows.prompts.shape == (4, 5, 160, 160)
    assert torch.equal(windows.pixels, again.pixels)
    assert torch.equal(windows.prompts, again.prompts)
    assert (windows.masks[0].flatten(1).sum(1) >= MIN_PIXELS).all()
    assert not torch.equal(windows.prompts, windows.masks)
    assert not torch.equal(stream[8].pixels[0], windows.pixels[0])


def test_a_damaged_mask_still_covers_its_thing() -> None:
    mask = np.zeros((20, 60, 60), dtype=np.bool_)
    mask[:, 20:40, 15:45] = True
    for before, after in zip(mask, damage(np.random.default_rng(0), mask), strict=True):
        assert (before & after).sum() / (before | after).sum() > 0.5
    empty = np.zeros((1, 9, 9), dtype=np.bool_)
    assert not np.array(list(damage(np.random.default_rng(0), empty))).any()


def test_frames_are_decoded_as_transformers_does() -> None:
    model = begin(TrackerRecipe())
    model.eval()
    windows = WindowStream(1, WindowOptions(4, 1))[2]
    with torch.no_grad():
        steps = follow(model, windows)
    video = _adapted(model, TrackerOptions())
    session = _Session(video)
    session.obj_id_to_prompt_id = {1: 0}
    with torch.inference_mode():
        for now, pixels in enumerate(windows.pixels):
            values = normalize_pixels(pixels.permute(2, 0, 1)[None])
            vision = video.detector_model.get_vision_features(pixel_values=values)
            features, places = video.get_vision_features_for_tracker(vision_embeds=vision)
            session.cache.cache_vision_features(now, {"vision_feats": features, "vision_pos_embeds": places})
            if now == 0:
                session.obj_id_to_idx(1)
                video._tracker_add_new_objects(session, 0, [1], windows.masks[0].float())
                continue
            masks, logits = video.run_tracker_propagation(session, now, reverse=False)
            assert logits.item() == pytest.approx(steps[now - 1].scores.item(), abs=0.02)
            if logits.item() > 0:  # else the mask is not decoded but put out
                assert (masks[0] - steps[now - 1].masks[0, 0]).abs().max() < 0.1
            video._tracker_update_memories(session, now, masks.clone())


def test_a_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", RECIPE).tracker_model.state_dict()

    def stop(_stage: str, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", RECIPE, stop)
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    resumed = train(tmp_path / "parts", RECIPE).tracker_model.state_dict()
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    with pytest.raises(OptionError):
        train(tmp_path / "parts", replace(RECIPE, seed=1))


def test_losses_are_least_for_the_truth_and_weights_fit_the_package(tmp_path: Path) -> None:
    model = begin(TrackerRecipe())
    windows = WindowStream(0, SMALL)[0]
    with torch.no_grad():
        (step,) = follow(model, windows)
    there = windows.masks[1].flatten(1).sum(1) >= MIN_PIXELS
    cells = torch.nn.functional.adaptive_avg_pool2d(windows.masks[1][:, None].float(), 64)
    right = replace(step, masks=40 * cells - 20, scores=torch.where(there, 9.0, -9.0)[:, None])
    lost, best = track_losses([step], windows.masks[1:]), track_losses([right], windows.masks[1:])
    assert best["mask"] < 0.3 * lost["mask"]
    assert best["J"] > 0.8
    assert np.nanmin(ious([right], windows)) > 0.8
    assert save_weights(model, tmp_path) < 2_500_000
