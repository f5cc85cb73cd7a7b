"""Texts: tokenizers in core TensorFlow operations."""
