"""Models: a backbone with a task's head, cut, folded and kept in float32."""
