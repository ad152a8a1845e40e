"""What a dislike does, reason by reason: receipt, next list, and half of it gone after the half-life."""
