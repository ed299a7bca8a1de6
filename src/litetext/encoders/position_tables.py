"""Position tables: to the number of rows that a student's context needs, in the way the file's weights were trained."""

from typing import TYPE_CHECKING, Literal, get_args

from litetext.errors import OptionError

if TYPE_CHECKING:
    import torch

Resize = Literal["slice", "interpolate", "keep"]
RESIZES: tuple[Resize, ...] = get_args(Resize)


def resize_positions(table: "torch.Tensor", rows: int, how: Resize) -> "torch.Tensor":
    """A new table with the wanted number of rows.

    Which way is right cannot be seen in the table: SAM3-LiteText's training interpolates 77 rows, its deployed model
    reads the first, and a student fails where the two are mixed.

    Args:
        table: floating point [T, C].
        rows: L, those wanted.
        how: "slice", the first L rows; "interpolate", linearly over the whole table (half-pixel centres, without
            smoothing), computed in float32; "keep", the table as it is, which must have L rows.

    Returns:
        [L, C] in the type and on the device of the table, its own memory.

    Raises:
        OptionError: not a table, no such way, or the way does not lead to L rows.
    """
    from torch.nn.functional import interpolate

    if table.ndim != 2 or rows < 1:
        raise OptionError(f"a position table {list(table.shape)} to {rows} rows", hint="give [T, C] and at least 1")
    have, width = table.shape
    fits = {"slice": rows <= have, "interpolate": True, "keep": rows == have}
    if not fits.get(how, False):
        raise OptionError(
            f"cannot make {rows} rows of a position table of {have} by '{how}'",
            hint="give 'slice' for its first rows, 'interpolate' to stretch it, or 'keep' where the numbers are equal",
        )
    if how == "interpolate":
        stretched = interpolate(table[None, None].float(), size=(rows, width), mode="bilinear")
        return stretched[0, 0].to(table.dtype)
    return table[:rows].clone()
