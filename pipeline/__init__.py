"""pipeline: the steps from a source to a pushed model, each found again while nothing changed."""
