"""The tiny hosts of tests/sam3, for predictions too."""

from tests.sam3.conftest import host_folder, no_network

__all__ = ["host_folder", "no_network"]
