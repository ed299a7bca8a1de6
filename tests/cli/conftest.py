"""The tiny hosts of tests/sam3, for the command line too."""

from tests.sam3.conftest import host_folder, no_network

__all__ = ["host_folder", "no_network"]
