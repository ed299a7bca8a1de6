"""Export targets beside ONNX: a module each, with ``write`` and ``open_engine``."""
