"""Sources: one file each way that labelled data may lie somewhere."""
