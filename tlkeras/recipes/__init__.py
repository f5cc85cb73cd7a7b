"""The recipes, one per file; a file in this package registers its recipe."""
