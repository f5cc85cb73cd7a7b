"""Steps: one file for each TFX component."""
