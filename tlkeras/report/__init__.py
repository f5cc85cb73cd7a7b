"""Report and model card, and the charts in them."""
