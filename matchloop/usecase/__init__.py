"""Use cases: one direction of recommendation each, declared in TOML."""

from matchloop.usecase.load import UseCases, load_use_cases
from matchloop.usecase.model import (
    DislikeReason,
    Event,
    Exploration,
    FeatureType,
    FieldMatch,
    Method,
    Popularity,
    RankingRules,
    Tier,
    Tiers,
    UseCase,
)

__all__ = [
    "DislikeReason",
    "Event",
    "Exploration",
    "FeatureType",
    "FieldMatch",
    "Method",
    "Popularity",
    "RankingRules",
    "Tier",
    "Tiers",
    "UseCase",
    "UseCases",
    "load_use_cases",
]
