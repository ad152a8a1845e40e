"""How each model is trained, each readable from top to bottom."""
