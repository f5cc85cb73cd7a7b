"""Measures: how good the answers of a task are."""
