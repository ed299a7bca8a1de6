"""The formats of checkpoints as rows of one table, and which of them a file is in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from litetext.checkpoints.rules import (
    TABLE,
    TURNED,
    Rule,
    mobileclip_blocks,
    mobileclip_stem,
    openclip_blocks,
    openclip_stem,
    own_blocks,
    same,
    transformers_encoder,
    transformers_mixer,
    transformers_tower,
)
from litetext.checkpoints.shapes import UNUSED, Kind
from litetext.checkpoints.tensors import listed
from litetext.errors import EncoderError

Model = Literal["student", "teacher"]


@dataclass(frozen=True)
class Format:
    """A format of checkpoints.

    Attributes:
        name: what `litetext inspect` calls it.
        title: what it is, for people.
        family: what `litetext convert --to` calls it; "" where it cannot be written.
        model: whether it holds a student or the teacher; None where the file says which.
        scopes: how names of the text side begin below the root; every name there must be known.
        stem: rules of what is not in a block. The first is the token table, by which the format is recognized.
        blocks: rules of each kind of block that it can hold.
        ignored: names in its scopes that carry nothing.
        root: what `litetext convert` writes before the names.
        whole: whether the projector to SAM3's decoder is in it.
    """

    name: str
    title: str
    family: str
    model: Model | None
    scopes: tuple[str, ...]
    stem: tuple[Rule, ...]
    blocks: Mapping[Kind, tuple[Rule, ...]]
    ignored: tuple[str, ...] = ()
    root: str = ""
    whole: bool = True

    @property
    def anchor(self) -> str:
        """The name of the token table below the root."""
        return self.stem[0].theirs[0]

    def rules(self, kinds: Sequence[Kind]) -> list[Rule]:
        """The rule of every tensor of an encoder with these blocks; those of kinds that it cannot hold are left out."""
        blocks = [rule.numbered(n) for n, kind in enumerate(kinds) for rule in self.blocks.get(kind, ())]
        return [*self.stem, *blocks]


BACKBONE = "backbone.language_backbone."
FORMATS = (
    Format(
        name="litetext",
        title="LiteText's own",
        family="litetext",
        model=None,
        scopes=("",),
        stem=(
            *same("token_table", "token_table", ("weight", "scale", "up.weight")),
            *(Rule(name, (name,)) for name in ("positions", UNUSED)),
            *same("final_norm", "final_norm"),
            *same("projector", "projector", ("weight", "scale", "bias", "input_range")),
        ),
        blocks=own_blocks(),
    ),
    Format(
        name="sam3-litetext",
        title="SAM3-LiteText of its authors (efficientsam3)",
        family="upstream",
        model="student",
        scopes=(BACKBONE,),
        stem=(*mobileclip_stem(f"{BACKBONE}encoder."), *same("projector", f"{BACKBONE}projector")),
        blocks=mobileclip_blocks(f"{BACKBONE}encoder."),
        root="detector.",
    ),
    Format(
        name="sam3",
        title="SAM3 of Meta (sam3.pt)",
        family="upstream",
        model="teacher",
        scopes=(BACKBONE,),
        stem=(*openclip_stem(f"{BACKBONE}encoder."), *same("projector", f"{BACKBONE}resizer")),
        blocks=openclip_blocks(f"{BACKBONE}encoder."),
        root="detector.",
    ),
    Format(
        name="sam3-litetext-transformers",
        title="SAM3-LiteText of transformers",
        family="huggingface",
        model="student",
        scopes=("text_encoder.", "text_projection."),
        stem=(
            Rule("token_table.weight", ("text_encoder.embeddings.token_embedding.weight",)),
            Rule("positions", ("text_encoder.embeddings.position_embedding.position_embedding",), TABLE),
            *same("final_norm", "text_encoder.final_layer_norm"),
            Rule(UNUSED, ("text_encoder.projection.weight",), TURNED),
            *same("projector", "text_projection"),
        ),
        blocks={
            "encoder": transformers_encoder("text_encoder.layers.{n}"),
            "mixer": transformers_mixer("text_encoder.layers.{n}"),
        },
    ),
    Format(
        name="sam3-transformers",
        title="SAM3 of transformers (facebook/sam3)",
        family="huggingface",
        model="teacher",
        scopes=("text_encoder.", "text_projection."),
        stem=(
            *transformers_tower("text_encoder.text_model."),
            Rule(UNUSED, ("text_encoder.text_projection.weight",), TURNED),
            *same("projector", "text_projection"),
        ),
        blocks={"encoder": transformers_encoder("text_encoder.text_model.encoder.layers.{n}")},
        ignored=("text_encoder.text_model.embeddings.position_ids",),
        root="detector_model.",
    ),
    Format(
        name="mobileclip",
        title="MobileCLIP of Apple",
        family="",
        model="student",
        scopes=("text_encoder.",),
        stem=mobileclip_stem("text_encoder."),
        blocks=mobileclip_blocks("text_encoder."),
        whole=False,
    ),
    Format(
        name="openclip",
        title="MobileCLIP in OpenCLIP",
        family="",
        model="student",
        scopes=("text.",),
        stem=openclip_stem("text."),
        blocks=openclip_blocks("text."),
        whole=False,
    ),
)
"""Every format that is recognized."""

TOWER = Format(
    name="transformers-clip",
    title="the CLIP text tower of transformers",
    family="",
    model="teacher",
    scopes=("",),
    stem=transformers_tower(""),
    blocks={"encoder": transformers_encoder("encoder.layers.{n}")},
    whole=False,
)
"""Not a file but the module in [`TextTeacher`][litetext.encoders.teacher.TextTeacher]; its names vary by a root too."""

FAMILIES = tuple(dict.fromkeys(row.family for row in FORMATS if row.family))
"""What can be written."""


def find_format(names: Iterable[str], where: str, formats: Sequence[Format] = FORMATS) -> tuple[Format, str]:
    """The format that tensors are named in, and the root before their names.

    Args:
        names: of all tensors of a file.
        where: the file, for errors.
        formats: those to choose from.

    Raises:
        EncoderError: no text encoder is known by these names, or there are several.
    """
    everything = list(names)
    ends = {f".{row.anchor}": row for row in formats}
    found = [
        (row, dotted[1 : -len(row.anchor)])
        for dotted in (f".{name}" for name in everything)
        for end, row in ends.items()
        if dotted.endswith(end)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise EncoderError(
            f"none of the known text encoders is in it; it has: {listed(everything) or 'no tensors'}",
            where=where,
            hint="see docs/checkpoints.md for the formats",
        )
    roots = listed(f"{root}{row.anchor}" for row, root in found)
    raise EncoderError(
        f"{len(found)} text encoders are in it ({roots})", where=where, hint="save the one that is meant"
    )


def writable(family: str, model: Model) -> Format:
    """The format of a family (`FAMILIES`) that holds a student or the teacher.

    Raises:
        EncoderError: no such family.
    """
    for row in FORMATS:
        if row.family == family and row.model in {model, None}:
            return row
    raise EncoderError(f"no format is called '{family}'", hint=f"give {', '.join(FAMILIES)}")
