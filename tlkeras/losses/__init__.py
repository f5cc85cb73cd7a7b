"""Losses and metrics of the tasks, which import them when a model is compiled.

Their classes are of Keras, whose import takes seconds; the tasks themselves do without it.
"""
