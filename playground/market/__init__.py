"""A simulated two-sided market with a hidden preference, generated from a seed or fitted to a data set."""

from playground.market.clicks import ClickModel, Outcomes, Reaction, Shown
from playground.market.market import Market, MarketEvent
from playground.market.scoring import RoundScore, score_round

__all__ = [
    "ClickModel",
    "Market",
    "MarketEvent",
    "Outcomes",
    "Reaction",
    "RoundScore",
    "Shown",
    "score_round",
]
