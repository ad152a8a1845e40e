"""Ranking: features, the learned scorer and the rule, greedy placement."""
