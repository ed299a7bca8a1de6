"""Text encoders: the protocol that every encoder satisfies, and the adapters that satisfy it."""
