"""Distillation: a student that keeps what the teacher says."""
