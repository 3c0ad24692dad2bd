"""Encoders, MoCo v2, the training loop, checkpoints and embedding."""
