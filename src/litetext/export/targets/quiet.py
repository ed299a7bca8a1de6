"""Silence for converters, which warn of their own insides and draw bars."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet_converter() -> Iterator[None]:
    """No warnings, log lines or progress bars within the block; errors come through.

    What PyTorch's, ExecuTorch's and Core ML's packages warn of while they are imported and while they convert (versions
    that they were not tested with, functions that they will call otherwise one day) is not for our users to fix.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
