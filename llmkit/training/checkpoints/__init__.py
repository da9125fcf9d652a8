"""Checkpoints: state, policy, resuming and provenance."""
