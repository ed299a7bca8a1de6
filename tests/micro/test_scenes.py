import numpy as np
import pytest

from litetext.errors import OptionError
from litetext.micro.concepts import concepts
from litetext.micro.scenes import SPLITS, Scene, SceneOptions, Sprite, compose, make_scene

SCENES = [make_scene(seed) for seed in range(60)]


def block(side: int, colour: int, left: int, top: int) -> Sprite:
    """A sprite whose inside is opaque and whose frame is as transparent as a covered pixel must not be."""
    pixels = np.full((side, side, 4), colour, dtype=np.uint8)
    pixels[..., 3] = 127
    pixels[1:-1, 1:-1, 3] = 255
    return Sprite(concepts()[0], None, pixels, left, top)


def same(one: Scene, other: Scene) -> bool:
    return one.pixels.tobytes() == other.pixels.tobytes() and len(one.instances) == len(other.instances)


def test_the_same_seed_gives_the_same_bytes() -> None:
    again = make_scene(5)
    assert same(SCENES[5], again)
    for one, other in zip(SCENES[5].instances, again.instances, strict=True):
        assert (one.concept, one.colour, one.box, one.extent) == (other.concept, other.colour, other.box, other.extent)
        assert np.array_equal(one.mask, other.mask)


def test_seeds_and_splits_differ() -> None:
    assert len({scene.pixels.tobytes() for scene in SCENES}) == len(SCENES)
    assert len({make_scene(5, SceneOptions(split=split)).pixels.tobytes() for split in SPLITS}) == len(SPLITS)


def test_the_global_generator_is_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002 - what must not matter
    one = make_scene(3)
    np.random.seed(1)  # noqa: NPY002
    assert same(one, make_scene(3))


def test_composed_masks_are_exactly_the_visible_pixels() -> None:
    background = np.zeros((20, 20, 3), dtype=np.uint8)
    scene = compose(background, [block(10, 100, 2, 2), block(8, 200, 8, 6), block(6, 50, -3, 17)])
    first, second, third = (np.zeros((20, 20), dtype=bool) for _ in range(3))
    first[3:11, 3:11] = True
    second[7:13, 9:15] = True
    first &= ~second
    third[18:20, 0:2] = True  # the rest lies outside
    for instance, mask in zip(scene.instances, (first, second, third), strict=True):
        assert np.array_equal(instance.mask, mask)
    assert (scene.pixels[first & ~_frame(8, 6, 8)] == 100).all()
    assert (scene.pixels[second] == 200).all()
    assert (scene.pixels[third] == 50).all()
    assert scene.instances[0].box == (3, 3, 11, 11)
    assert scene.instances[2].box == (0, 18, 2, 20)
    assert scene.instances[0].extent == 0.5
    assert not background.any()


def _frame(left: int, top: int, side: int) -> np.ndarray:
    mask = np.zeros((20, 20), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_a_hidden_sprite_is_no_instance() -> None:
    scene = compose(np.zeros((20, 20, 3), dtype=np.uint8), [block(6, 9, 5, 5), block(12, 8, 2, 2), block(5, 7, 40, 40)])
    assert len(scene.instances) == 1


def test_masks_are_disjoint_and_inside_and_boxes_fit() -> None:
    for scene in SCENES:
        assert scene.pixels.shape == (160, 160, 3)
        assert scene.pixels.dtype == np.uint8
        assert 1 <= len(scene.instances) <= 8
        assert np.sum([instance.mask for instance in scene.instances], axis=0).max() == 1
        for instance in scene.instances:
            left, top, right, bottom = instance.box
            assert instance.mask.shape == (160, 160)
            assert instance.mask.sum() >= 24
            assert instance.mask[top:bottom, left:right].sum() == instance.mask.sum()
            assert all(side.any() for side in (instance.mask[top], instance.mask[bottom - 1]))
            assert all(side.any() for side in (instance.mask[:, left], instance.mask[:, right - 1]))
            assert 0 < instance.extent < 1


def test_scenes_are_varied() -> None:
    counts = {len(scene.instances) for scene in SCENES}
    assert counts >= {1, 2, 3, 4, 5}
    assert len({instance.concept.index for scene in SCENES for instance in scene.instances}) > 60


def test_tints_are_all_or_none_of_a_concept() -> None:
    for scene in SCENES:
        tinted: dict[int, set[bool]] = {}
        for instance in scene.instances:
            tinted.setdefault(instance.concept.index, set()).add(instance.colour is not None)
            assert instance.colour is None or instance.concept.tintable
        assert all(len(kinds) == 1 for kinds in tinted.values())


def test_size_is_obeyed() -> None:
    assert make_scene(0, SceneOptions(size=64)).pixels.shape == (64, 64, 3)
    assert len(make_scene(0, SceneOptions(most=1)).instances) == 1


@pytest.mark.parametrize(
    "values", [{"size": 16}, {"most": 0}, {"most": 9}, {"min_visible": 0.0}, {"pairs": 0}, {"split": "trian"}]
)
def test_options_out_of_range(values: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        SceneOptions(**values)  # type: ignore[arg-type]


def test_a_negative_seed() -> None:
    with pytest.raises(OptionError, match="seed -1"):
        make_scene(-1)
