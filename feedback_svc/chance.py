"""What chance alone explains: the upper tail of a binomial, and the lower end of a share's interval."""

from __future__ import annotations

import math

Z = 1.959963984540054
"""Of a two-sided 95 % interval."""
NEGLIGIBLE = 1e-17


def tail(least: int, trials: int, share: float) -> float:
    """Return the probability of `least` or more successes in `trials` of chance `share` each."""
    if least <= 0 or share >= 1.0:
        return 1.0
    if share <= 0.0:
        return 0.0
    odds = share / (1.0 - share)
    ways = math.lgamma(trials + 1) - math.lgamma(least + 1) - math.lgamma(trials - least + 1)
    term = math.exp(ways + least * math.log(share) + (trials - least) * math.log1p(-share))
    total = 0.0
    for successes in range(least, trials + 1):
        total += term
        term *= (trials - successes) / (successes + 1) * odds
        if successes > trials * share and term < NEGLIGIBLE * total:
            break
    return min(1.0, total)


def wilson(hits: int, trials: int) -> float:
    """Return the lower end of the 95 % Wilson score interval of a share; 0 for no trials."""
    if not trials:
        return 0.0
    share, z2 = hits / trials, Z * Z
    middle = share + z2 / (2 * trials)
    half = Z * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    return min(share, max(0.0, (middle - half) / (1 + z2 / trials)))
