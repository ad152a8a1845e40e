"""The record: catalogue, lists shown, reactions, dislikes, and what they add up to. Alone in having state."""
