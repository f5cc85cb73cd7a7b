"""The recipes: one file each, known by its name as soon as it lies here."""
