"""Comparing releases on live subjects."""
