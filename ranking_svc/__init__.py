"""ranking_svc: makes the list a subject is shown, and remembers it."""
