"""Deployment: smaller students with the same answers, and programs that serve them without PyTorch."""
