"""Forward and backward: layers, losses, metrics and the model. Knows no ranks."""
