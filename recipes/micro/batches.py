"""Training batches of the micro world, each made from its step number alone, so that a run can resume anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from litetext.errors import OptionError
from litetext.micro.concepts import concepts, spoken_nouns
from litetext.micro.glyphs import COLOURS, make_background
from litetext.micro.model import FINE, GRID, SIZE
from litetext.micro.phrases import Phrase, Query, is_called, negative, out_of_domain, positive, say
from litetext.micro.scenes import (
    BATCH_STREAM,
    DENSE_STREAM,
    Scene,
    SceneOptions,
    Sprite,
    compose,
    develop,
    generator,
    make_look,
    make_scene,
    turn,
)
from litetext.tokenizer.bpe import TokenBatch
from recipes.micro.losses import as_tensors

ROWS = 4  # glyphs a side
_SMALL, _LARGE = 0.56, 1.3  # of a cell
_SHIFT = 0.16
_TINTED = 0.6
_SEEN = 40  # pixels of an instance at least, for a picture of 160


def make_dense_scene(seed: int, options: SceneOptions) -> Scene:
    """The dense scene of a seed: about sixteen glyphs of any concepts on a jittered grid, none of them mostly hidden.

    Args:
        seed: 0 or more.
        options: `size` and `split` are read.
    """
    rng = generator(seed, options.split, DENSE_STREAM)
    known, names = concepts(), tuple(COLOURS)
    cell = options.size / ROWS
    sprites = []
    for place in rng.permutation(ROWS * ROWS):
        concept = known[rng.integers(len(known))]
        tinted = concept.tintable and rng.random() < _TINTED
        colour = names[rng.integers(len(names))] if tinted else None
        pixels = turn(rng, concept, colour, cell * rng.uniform(_SMALL, _LARGE))
        row, column = divmod(int(place), ROWS)
        x, y = (np.array([column, row]) + 0.5 + rng.uniform(-_SHIFT, _SHIFT, 2)) * cell
        sprites.append(Sprite(concept, colour, pixels, round(x - pixels.shape[1] / 2), round(y - pixels.shape[0] / 2)))
    scene = compose(make_background(rng, options.size), sprites)
    least = _SEEN * (options.size / 160) ** 2
    look = make_look(rng, scene.pixels.shape[0])
    return Scene(develop(scene.pixels, look), tuple(one for one in scene.instances if one.mask.sum() >= least))


_STRANGE = 0.35  # share of the absent phrases that name nothing of the micro world
_CONTEXT = 24
_FAR = 0.9  # of a guessed box: of its width, and of the logarithm of its size
_OWN = 4  # times as often as others, boxes lie near instances that the phrase names


@dataclass(frozen=True)
class BatchOptions:
    """What is in a batch.

    Attributes:
        pictures: pictures B.
        phrases: phrases about each picture for the set losses, every other one present; 0 leaves them out.
        nouns: nouns in the bank of the contrastive loss: those that are true of something first.
        coloured: nouns that the bank also holds in every colour.
        strange: phrases in the bank that name nothing of the micro world.
        dense: share of the pictures that are dense scenes: many glyphs, to learn what things look like.
        guesses: boxes near instances that are given for each phrase; see `guess`.
        points: pixels of each instance at which masks are compared; see `edges.lay_points`.

    Raises:
        OptionError: no pictures, no nouns, or one phrase.
    """

    pictures: int
    phrases: int
    nouns: int
    coloured: int
    strange: int
    dense: float = 0.0
    guesses: int = 0
    points: int = 0

    def __post_init__(self) -> None:
        """Check that the losses have something to work on."""
        if self.pictures < 1 or self.nouns < 1:
            raise OptionError("a batch without pictures or nouns", hint="give 1 or more")
        if self.phrases == 1:
            raise OptionError("one phrase a picture", hint="give 0, or 2 and more: of two one is present")
        if self.points == 1:
            raise OptionError("one point an instance", hint="give 0, or 2 and more: of two one is at the edge")


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures with I instances, a bank of K phrases, and N phrases that are each asked of one picture.

    Attributes:
        pixels: uint8 [B, 3, SIZE, SIZE].
        owner: int64 [I], the picture of each instance.
        concept: int64 [I], what each is.
        boxes: float32 [I, 4], centre, width and height as shares of the picture.
        cover: float32 [I, GRID * GRID], the share of each patch that is the instance's.
        masks: float32 [I, FINE, FINE], the share of each cell that is the instance's; [0, FINE, FINE] without phrases.
        bank_ids: int64 [K, L].
        bank_mask: bool [K, L], True at valid tokens.
        truth: int8 [I, K], 1 where a phrase of the bank is true of an instance, 0 where not, -1 where nobody can say.
        ids: int64 [N, L].
        mask: bool [N, L], True at valid tokens.
        picture: int64 [N], of which picture a phrase is asked.
        named: bool [N, I], the instances that it names.
        guess_boxes: float32 [N, G, 4], boxes laid near instances of the phrase's picture.
        guess_of: int64 [N, G], near which.
        points: float32 [I, P, 2], x and y of pixels in and about each instance as shares of the picture.
        inside: float32 [I, P], 1 where they are the instance's, else 0.
    """

    pixels: Tensor
    owner: Tensor
    concept: Tensor
    boxes: Tensor
    cover: Tensor
    masks: Tensor
    bank_ids: Tensor
    bank_mask: Tensor
    truth: Tensor
    ids: Tensor
    mask: Tensor
    picture: Tensor
    named: Tensor
    guess_boxes: Tensor
    guess_of: Tensor
    points: Tensor
    inside: Tensor

    @property
    def guesses(self) -> int:
        """G."""
        return self.guess_of.shape[1]


class BatchStream(Dataset[Batch]):
    """The batch of each step.

    Args:
        seed: of the whole run.
        options: what is in a batch.
    """

    def __init__(self, seed: int, options: BatchOptions) -> None:
        self.seed, self.options = seed, options

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, the same each time."""
        rng = generator(self.seed, "train", BATCH_STREAM, step)
        scenes: list[Scene] = []
        asked: list[tuple[int, Phrase]] = []
        while len(scenes) < self.options.pictures:
            draw = make_dense_scene if rng.random() < self.options.dense else make_scene
            scene = draw(int(rng.integers(2**62)), SceneOptions(size=SIZE))
            phrases = ask(scene, self.options.phrases, rng)
            if phrases is not None:
                asked += [(len(scenes), phrase) for phrase in phrases]
                scenes.append(scene)
        batch = assemble(scenes, asked, make_bank(scenes, self.options, rng))
        if self.options.guesses:
            batch = guess(batch, self.options.guesses, rng)
        if self.options.points:
            instances = [one for scene in scenes for one in scene.instances]
            points, inside = as_tensors(instances, self.options.points, rng)
            batch = replace(batch, points=points, inside=inside)
        return batch


def ask(scene: Scene, count: int, rng: np.random.Generator) -> list[Phrase] | None:
    """So many different phrases about a scene, the kinds in turn from a random one; None if they cannot be found."""
    found: list[Phrase] = []
    turn = int(rng.integers(2))
    for number in range(count):
        kind = "present" if number % 2 == turn else ("absent", "hard")[int(rng.random() < 0.5)]
        for _ in range(8):
            phrase = _one(scene, kind, rng)
            if phrase is not None and all(phrase.text != other.text for other in found):
                found.append(phrase)
                break
        else:
            return None
    return found


def _one(scene: Scene, kind: str, rng: np.random.Generator) -> Phrase | None:
    if kind == "present":
        return positive(scene, rng)
    if kind == "absent" and rng.random() < _STRANGE:
        known = out_of_domain("train")
        text = known[rng.integers(len(known))]
        return Phrase(text, Query(text), (), "absent", held_out=False)
    return negative(scene, rng, hard=kind == "hard")


@dataclass(frozen=True, eq=False)
class Bank:
    """Phrases of the contrastive loss: nouns, some in a colour; a noun of -1 is a phrase from elsewhere.

    Attributes:
        texts: K of them.
        nouns: int64 [K], places in `spoken_nouns`, or -1.
        colours: int64 [K], places in COLOURS, or -1.
    """

    texts: tuple[str, ...]
    nouns: npt.NDArray[np.int64]
    colours: npt.NDArray[np.int64]


@cache
def noun_truth() -> npt.NDArray[np.int8]:
    """Whether a noun is true of a concept, int8 [concepts, nouns]: 1, 0, or -1 where nobody can say."""
    answers = {True: 1, False: 0, None: -1}
    return np.array(
        [[answers[is_called(concept, noun)] for noun in spoken_nouns()] for concept in concepts()], dtype=np.int8
    )


def make_bank(scenes: Sequence[Scene], options: BatchOptions, rng: np.random.Generator) -> Bank:
    """The nouns that are true of something in the scenes, others, some of them coloured, and strangers."""
    instances = [instance for scene in scenes for instance in scene.instances]
    there = (noun_truth()[[instance.concept.index for instance in instances]] == 1).any(axis=0)
    order = rng.permutation(len(there))
    chosen = np.concatenate([order[there[order]], order[~there[order]]])[: options.nouns]
    tinted = [instance for instance in instances if instance.colour is not None]
    rows = [(int(noun), -1) for noun in chosen]
    for index in rng.permutation(len(tinted))[: options.coloured]:
        true = np.flatnonzero(noun_truth()[tinted[index].concept.index] == 1)
        noun = int(true[rng.integers(len(true))])
        rows += [(noun, colour) for colour in range(len(COLOURS))]
    rows = list(dict.fromkeys(rows))
    names = tuple(COLOURS)
    texts = [
        say(Query(spoken_nouns()[noun], names[colour] if colour >= 0 else None), rng, several=rng.random() < 0.5)
        for noun, colour in rows
    ]
    known = out_of_domain("train")
    strange = [known[index] for index in rng.integers(len(known), size=options.strange)]
    both = np.array([*rows, *[(-1, -1)] * len(strange)], dtype=np.int64)
    return Bank((*texts, *strange), both[:, 0], both[:, 1])


def truth_of(bank: Bank, scenes: Sequence[Scene]) -> npt.NDArray[np.int8]:
    """Whether each phrase of a bank is true of each instance, int8 [I, K]: 1, 0, or -1 where nobody can say."""
    names = tuple(COLOURS)
    instances = [instance for scene in scenes for instance in scene.instances]
    concept = np.array([instance.concept.index for instance in instances])
    colour = np.array([-1 if one.colour is None else names.index(one.colour) for one in instances])[:, None]
    truth = np.where(bank.nouns >= 0, noun_truth()[concept][:, bank.nouns], 0).astype(np.int8)
    asked = bank.colours >= 0
    truth[asked & (colour >= 0) & (colour != bank.colours)] = 0
    truth[asked & (colour < 0) & (truth == 1)] = -1
    return truth


def assemble(scenes: Sequence[Scene], asked: Sequence[tuple[int, Phrase]], bank: Bank) -> Batch:
    """The tensors of scenes, of the phrases asked of them, and of a bank."""
    counts = [len(scene.instances) for scene in scenes]
    first = np.cumsum([0, *counts])
    named = np.zeros((len(asked), first[-1]), dtype=np.bool_)
    for row, (picture, phrase) in enumerate(asked):
        named[row, first[picture] + np.array(phrase.indices, dtype=np.int64)] = True
    full = torch.from_numpy(np.stack([one.mask for scene in scenes for one in scene.instances])).float()
    boxes = torch.tensor([one.box for scene in scenes for one in scene.instances]) / SIZE
    cover = interpolate(full[None], size=(GRID, GRID), mode="area")[0].flatten(1)
    if asked:
        masks = interpolate(full[None], size=(FINE, FINE), mode="bilinear", antialias=True)[0]
    else:  # nobody looks at them
        masks = full.new_zeros(0, FINE, FINE)
    bank_ids, bank_mask = _tokens(bank.texts)
    ids, mask = _tokens([phrase.text for _, phrase in asked])
    return Batch(
        pixels=torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2).contiguous(),
        concept=torch.tensor([one.concept.index for scene in scenes for one in scene.instances]),
        owner=torch.repeat_interleave(torch.arange(len(scenes)), torch.tensor(counts)),
        boxes=torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1),
        cover=cover,
        masks=masks,
        bank_ids=bank_ids,
        bank_mask=bank_mask,
        truth=torch.from_numpy(truth_of(bank, scenes)),
        ids=ids,
        mask=mask,
        picture=torch.tensor([picture for picture, _ in asked], dtype=torch.int64),
        named=torch.from_numpy(named),
        guess_boxes=torch.zeros(len(asked), 0, 4),
        guess_of=torch.zeros(len(asked), 0, dtype=torch.int64),
        points=torch.zeros(len(full), 0, 2),
        inside=torch.zeros(len(full), 0),
    )


def guess(batch: Batch, count: int, rng: np.random.Generator) -> Batch:
    """Lay boxes near instances, from exactly there to a width beside; a phrase's own instances are chosen more often.

    A decoder learns from them what to do with a query that is nearly right, long before its own queries are. Source:
    DN-DETR (arXiv 2203.01305); boxes near what the phrase does not name are from DINO (arXiv 2203.03605).

    Args:
        batch: with N phrases.
        count: boxes G for each phrase.
        rng: the source of randomness.
    """
    shape = (len(batch.named), count)
    mine = (batch.owner[None] == batch.picture[:, None]).numpy()
    weight = mine * (1 + _OWN * batch.named.numpy())
    edges = (weight / weight.sum(1, keepdims=True)).cumsum(1)
    chosen = np.minimum((rng.random(shape)[:, :, None] > edges[:, None]).sum(2), mine.shape[1] - 1)
    true = batch.boxes.numpy()[chosen]
    far = rng.random(shape)[..., None]
    centre = true[..., :2] + far * rng.uniform(-_FAR, _FAR, (*shape, 2)) * true[..., 2:]
    extent = true[..., 2:] * np.exp(far * rng.uniform(-_FAR, _FAR, (*shape, 2)))
    boxes = np.concatenate([centre, extent], axis=-1).clip(0.01, 0.99).astype(np.float32)
    return replace(batch, guess_boxes=torch.from_numpy(boxes), guess_of=torch.from_numpy(chosen))


def _tokens(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Ids and mask of texts, [N, L] with L the longest; no texts give [0, 1]."""
    batch = TokenBatch.of_texts(texts, _CONTEXT)
    longest = max(1, int(batch.mask.any(axis=0).sum()))
    return torch.from_numpy(batch.ids[:, :longest].copy()), torch.from_numpy(batch.mask[:, :longest].copy())
