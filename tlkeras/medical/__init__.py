"""Medical pictures: from the values that a scanner stored to those that people look at."""
