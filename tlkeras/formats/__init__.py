"""Formats: what exporters need to write and read their files."""
