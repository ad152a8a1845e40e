"""From raw features to model input; training and serving import the same code."""

from matchloop.features.encoder import EntityEncoder
from matchloop.features.text import HashingEmbedder, TextEmbedder, load_embedder

__all__ = ["EntityEncoder", "HashingEmbedder", "TextEmbedder", "load_embedder"]
