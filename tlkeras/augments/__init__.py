"""Augmentations: random changes of training examples."""
