"""Matches: what two sides want of each other. ``python -m feedback_svc.matches`` makes the ledger again."""
