"""Data: examples that are split, recorded, read and batched."""
