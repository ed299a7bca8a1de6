"""Towards the device: smaller students with the same answers."""
