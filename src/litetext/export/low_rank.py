"""Token tables of low rank: the product of two small matrices, nearest where the prompts are."""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from litetext.encoders.config import StudentConfig
from litetext.encoders.inputs import prepare_rows
from litetext.errors import EncoderError, OptionError
from litetext.export.compress_io import CHECKED, Reduction, StudentFiles, draw_texts, write_smaller
from litetext.features.protocol import Progress
from litetext.prompts.corpus import PromptCorpus

if TYPE_CHECKING:
    from torch import Tensor

    from litetext.encoders.student import TextStudent

UNSEEN = 0.01  # what a token that never occurs counts, in occurrences
SHARE = 0.99


@dataclass(frozen=True)
class LowRankOptions:
    """How low, and how it is judged.

    Attributes:
        rank: of the token table; None for the smallest that keeps the share.
        share: of the weighted variance, above 0 and at most 1.
        check: the most phrases that the two are compared on.

    Raises:
        OptionError: a value makes no sense.
    """

    rank: int | None = None
    share: float = SHARE
    check: int = CHECKED

    def __post_init__(self) -> None:
        """Check each value."""
        if (self.rank is not None and self.rank < 1) or self.check < 1:
            raise OptionError(f"a rank of {self.rank}, {self.check} phrases", hint="give numbers of at least 1")
        if not 0 < self.share <= 1:
            raise OptionError(f"a share of {self.share}", where="--share", hint="give more than 0, at most 1")


@dataclass(frozen=True)
class LowRank:
    """A student with a table of low rank, and what that lost.

    Attributes:
        reduction: sizes and features before and after.
        rank: of the token table.
        width: channels C of a token, the rank of a whole table.
        share: of the variance that is kept, each token weighted by how often it occurs in the corpus.
        plain_share: the same with all tokens alike.
    """

    reduction: Reduction
    rank: int
    width: int
    share: float
    plain_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        own = {name: value for name, value in vars(self).items() if name != "reduction"}
        return own | self.reduction.to_json()

    def lines(self) -> list[str]:
        """For people."""
        first, *others = self.reduction.lines()
        loss = (
            f"rank {self.rank} of {self.width}: {self.share:.2%} of the variance of the tokens as often as they occur, "
            f"{self.plain_share:.2%} of all tokens alike"
        )
        return [first, loss, *others]


def lower_rank(
    files: StudentFiles, corpus: PromptCorpus, options: LowRankOptions, progress: Progress | None = None
) -> LowRank:
    """Write a student whose token table is factorized, with the least error on the tokens of a corpus.

    Args:
        files: from where, and where to.
        corpus: phrases that say which tokens count how much; the two are compared on some of them.
        options: the rank, or how to choose it.
        progress: called with the share of the comparison, 0..1.

    Raises:
        EncoderError: not a student, one that is quantized, or whose rank is that low already.
        OptionError: the rank saves nothing, the target is the source, or an option makes no sense.
        MissingExtraError: PyTorch is not installed.
        OSError: the file cannot be written.
    """
    import torch

    from litetext.encoders.token_tables import table_variances

    student = files.read()
    config = student.config
    table = whole_table(student)
    weights = torch.from_numpy(np.maximum(count_rows(config, corpus), UNSEEN))
    variances = table_variances(table, weights).numpy()
    rank = options.rank or choose_rank(variances, options.share)
    _check_rank(config, rank, files.source)
    smaller = factorized(student, rank, weights)
    reduction = write_smaller(files, student, smaller, draw_texts(corpus.texts, options.check), progress)
    # The columns of `up` are orthonormal: what a row keeps is the length of its r numbers.
    kept = smaller.token_table.weight.detach().double().square().sum() / table.square().sum().clamp_min(1e-300)
    return LowRank(
        reduction=reduction,
        rank=rank,
        width=config.width,
        share=share_kept(variances, rank),
        plain_share=min(1.0, float(kept)),
    )


def factorized(student: "TextStudent", rank: int, weights: "Tensor | None" = None) -> "TextStudent":
    """A copy of a student with the nearest token table of a rank, in the same number type.

    Args:
        student: neither quantized, nor of that rank or a lower one.
        rank: r.
        weights: [V], how much the error of each row counts; None for all alike.
    """
    from litetext.encoders.meta_init import meta_init
    from litetext.encoders.token_tables import FactorizedTable, factorize_table

    low, up = factorize_table(whole_table(student), rank, weights)
    number = student.token_table.weight.dtype
    smaller = copy.deepcopy(student)
    smaller.config = replace(student.config, rank=rank)
    with meta_init():  # elsewhere PyTorch's modules draw from its global generator
        smaller.token_table = FactorizedTable(len(low), rank, len(up))
    smaller.token_table.load_state_dict({"weight": low.to(number), "up.weight": up.to(number)}, assign=True)
    return smaller.eval()


def whole_table(student: "TextStudent") -> "Tensor":
    """The token table as one, float64 [V, C]."""
    from litetext.encoders.token_tables import FactorizedTable

    table = student.token_table
    exact = table.weight.detach().double()
    return exact @ table.up.weight.detach().double().T if isinstance(table, FactorizedTable) else exact


def count_rows(config: StudentConfig, corpus: PromptCorpus) -> npt.NDArray[np.float64]:
    """How often a student reads each row of its token table [V] in a corpus; at padding too, where it is attended."""
    batch = prepare_rows(corpus.texts, config)
    read = batch.mask if config.padding == "masked" else np.ones_like(batch.mask)
    times = np.broadcast_to(corpus.occurrences[:, None], read.shape)[read]
    counts: npt.NDArray[np.float64] = np.zeros(config.vocabulary)
    np.add.at(counts, batch.ids[read], times)
    return counts


def choose_rank(variances: npt.NDArray[np.float64], share: float) -> int:
    """The smallest rank that keeps a share of the variance.

    Args:
        variances: [C], the largest first, as `table_variances` gives them.
        share: above 0, at most 1.
    """
    reached = np.cumsum(variances) >= share * variances.sum() * (1 - 1e-12)
    return int(reached.argmax()) + 1


def share_kept(variances: npt.NDArray[np.float64], rank: int) -> float:
    """Share of the variance that is kept at a rank; 1 for a table of zeros."""
    total = float(variances.sum())
    return float(variances[:rank].sum()) / total if total else 1.0


def _check_rank(config: StudentConfig, rank: int, where: str) -> None:
    if config.rank is not None and rank >= config.rank:
        raise EncoderError(f"its token table is of rank {config.rank} already", where=where, hint="give a lower one")
    most = (config.vocabulary * config.width - 1) // (config.vocabulary + config.width)
    if rank > min(most, config.vocabulary):
        raise OptionError(
            f"a rank of {rank} saves nothing of a token table [{config.vocabulary}, {config.width}]",
            hint=f"give at most {most}, or a smaller share",
        )
