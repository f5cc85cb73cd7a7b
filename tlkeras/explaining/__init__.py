"""Explaining: what in an example a prediction rests on."""
