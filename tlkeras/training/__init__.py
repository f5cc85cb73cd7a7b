"""Training: the epoch loop, cached features and replicas."""
