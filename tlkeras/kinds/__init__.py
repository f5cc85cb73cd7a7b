"""Kinds: one file for each form that a feature may have."""
