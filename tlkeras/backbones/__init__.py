"""The backbones, one module a kind."""
