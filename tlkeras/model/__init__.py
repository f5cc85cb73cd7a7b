"""Models: a backbone with a task's head, and operations on its graph."""
