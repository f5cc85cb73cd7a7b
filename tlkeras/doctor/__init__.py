"""What is wrong or odd in data: defects, traits of values, near duplicates."""
