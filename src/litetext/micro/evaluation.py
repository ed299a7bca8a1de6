"""Any segmenter on the pairs of the micro world, counted as `litetext evaluate gold` counts them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.evaluation.cgf1 import CgF1, PairCounts, Progress, Tally, score
from litetext.evaluation.labeled_pairs import LabeledClip, LabeledPair, segment_pairs
from litetext.evaluation.veval_files import Masklet
from litetext.micro.clips import Clip, check_plot, make_clip
from litetext.micro.phrases import Pair, out_of_domain
from litetext.micro.scenes import OUT_OF_DOMAIN_STREAM, SceneOptions, generator, make_scene
from litetext.prompts.words import permute
from litetext.sam3.masks import Code, encode_masks, mask_ious
from litetext.sam3.segmenter import Segmenter

OUT_OF_DOMAIN = 200  # phrases


@dataclass(frozen=True, eq=False)
class MicroScores:
    """Scores on pairs of the micro world.

    Attributes:
        overall: of all pairs.
        counts: of each pair, in order.
        kinds: share of the pairs of each kind on which presence was answered rightly, 0 to 1.
        held_out: scores of the pairs whose noun training never showed, or None if there are none.
    """

    overall: CgF1
    counts: tuple[PairCounts, ...]
    kinds: Mapping[str, float]
    held_out: CgF1 | None

    def to_json(self) -> dict[str, Any]:
        """As `litetext evaluate gold --json`, and presence by kind and the held-out words besides."""
        held_out = None if self.held_out is None else self.held_out.to_json()
        return {**self.overall.to_json(), "presence_right": dict(self.kinds), "held_out": held_out}


def evaluate_pairs(segmenter: Segmenter, pairs: Iterable[Pair], progress: Progress | None = None) -> MicroScores:
    """Segment each pair at the segmenter's own threshold and score the masks; there is at least one pair.

    Each picture is embedded once: its pairs come one after another.
    """
    asked = list(pairs)
    counts: list[PairCounts] = []
    for pair, (masks,) in segment_pairs([segmenter], known_pairs(asked)):
        counts.append(pair.count(encode_masks(masks.masks)))
        if progress is not None:
            progress("segmenting", float(len(counts)))
    return summarize(asked, counts)


def known_pairs(pairs: Iterable[Pair]) -> Iterator[LabeledPair]:
    """The pairs as every evaluation reads them; their world is the only annotator."""
    for pair in pairs:
        true = encode_masks(_true_masks(pair))
        yield LabeledPair(f"picture {pair.picture}", pair.scene.pixels, pair.phrase.text, (tuple(true),))


def known_clips(seed: int, count: int, plots: Iterable[str], **options: Any) -> Iterator[LabeledClip]:
    """Clips of the test split, ``count`` of each plot from a seed on; the options are those of `make_clip`."""
    chosen = product([check_plot(plot) for plot in dict.fromkeys(plots)], range(seed, seed + count))
    return (
        label_clip(make_clip(own, plot, **{"split": "test", **options}), number, f"{plot}-{own:06d}")
        for number, (plot, own) in enumerate(chosen)
    )


def label_clip(clip: Clip, number: int, name: str) -> LabeledClip:
    """A clip with its masklets; a thing that a phrase names and that is never seen is none."""
    masks: list[dict[int, list[Code | None]]] = [{} for _ in clip.phrases]
    for frame, (_, drawn) in enumerate(clip):
        for phrase, own in zip(clip.phrases, masks, strict=True):
            for thing, mask in clip.true_masks(phrase, frame, drawn).items():
                (own.setdefault(thing, [None] * len(clip))[frame],) = encode_masks(mask[None])
    phrases = {place: phrase.text for place, phrase in enumerate(clip.phrases)}
    truths = {place: [Masklet.of(own[thing]) for thing in sorted(own)] for place, own in enumerate(masks)}
    return LabeledClip(number, name, len(clip), lambda frame: clip.draw(frame)[0], phrases, truths)


def refused_share(segmenter: Segmenter, count: int, seed: int, size: int) -> float:
    """Share of phrases that name nothing of the micro world, each asked of a picture of its own, that get no mask.

    At most ``count`` phrases are asked, of those kept from training; ``size`` is the side of the pictures in pixels.
    """
    rng = generator(seed, "test", OUT_OF_DOMAIN_STREAM)
    texts = rng.permutation(np.array(out_of_domain("test"), dtype=object))[:count]
    options = SceneOptions(size=size, split="test")
    pictures = (make_scene(int(rng.integers(2**62)), options).pixels for _ in texts)
    return float(np.mean([not len(segmenter(pixels, [text])[0]) for pixels, text in zip(pictures, texts, strict=True)]))


def summarize(pairs: Sequence[Pair], counts: Sequence[PairCounts]) -> MicroScores:
    """The scores of counted pairs."""
    right: dict[str, list[bool]] = {}
    for pair, count in zip(pairs, counts, strict=True):
        right.setdefault(pair.phrase.kind, []).append((count.predictions > 0) == (count.truths > 0))
    held_out = [count for pair, count in zip(pairs, counts, strict=True) if pair.phrase.held_out]
    return MicroScores(
        overall=score(Tally.of(counts)),
        counts=tuple(counts),
        kinds={kind: float(np.mean(answers)) for kind, answers in sorted(right.items())},
        held_out=score(Tally.of(held_out)) if held_out else None,
    )


def overlaps(masks: npt.NDArray[np.bool_], pair: Pair) -> npt.NDArray[np.float64]:
    """IoU of predicted masks, bool [P, H, W], and the instances that the phrase names: [P, G]."""
    return mask_ious(encode_masks(masks), encode_masks(_true_masks(pair)))


def _true_masks(pair: Pair) -> npt.NDArray[np.bool_]:
    """The instances that the phrase names: bool [G, H, W]."""
    masks = [pair.scene.instances[index].mask for index in pair.phrase.indices]
    return np.array(masks, dtype=np.bool_).reshape(len(masks), *pair.scene.pixels.shape[:2])


@dataclass(frozen=True, eq=False)
class OrderScores:
    """Scores of the pairs whose phrase may have another order (see `permute`): as they are, and in another order."""

    pairs: int
    normal: CgF1
    shuffled: CgF1

    @property
    def lost(self) -> float:
        """Points of cgF1, 0 to 100."""
        return self.normal.cgf1 - self.shuffled.cgf1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        both = {"normal": self.normal.to_json(), "shuffled": self.shuffled.to_json()}
        return {"pairs": self.pairs, **both, "cgf1_lost": self.lost}


def shuffle_words(pairs: Sequence[Pair], seed: int) -> dict[int, Pair]:
    """The pairs whose phrase has another order of its content words, in such an order, by their place."""
    generator = np.random.default_rng(seed)
    texts = {place: permute(pair.phrase.text, generator) for place, pair in enumerate(pairs)}
    return {
        place: replace(pairs[place], phrase=replace(pairs[place].phrase, text=text))
        for place, text in texts.items()
        if text is not None
    }


def compare_orders(segmenter: Segmenter, pairs: Sequence[Pair], scores: MicroScores, seed: int) -> OrderScores | None:
    """Ask again with the words in another order; None if no phrase has one."""
    shuffled = shuffle_words(pairs, seed)
    if not shuffled:
        return None
    normal = summarize(list(shuffled.values()), [scores.counts[place] for place in shuffled])
    return OrderScores(len(shuffled), normal.overall, evaluate_pairs(segmenter, shuffled.values()).overall)
