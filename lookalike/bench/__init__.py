"""Measurements of speed: each as a ratio to a rival or a limit measured in the same run."""
