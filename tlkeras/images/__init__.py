"""Pictures: decoded, resized, moved, coloured and drawn."""
