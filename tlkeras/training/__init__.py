"""Training: the epoch loop, kept features and replicas."""
