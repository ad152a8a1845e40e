"""Whether subjects were dealt as they should have been: a check of the experiment, not of the arms."""

from __future__ import annotations

import math

CONFIDENCE = 100.0
"""How many subjects the alternative's prior is worth: it expects shares some percent off the right one."""


def sample_ratio_p_value(challengers: int, champions: int, *, share: float) -> float:
    """Return the always-valid p-value of the subjects' split against the share.

    It is sequential: if subjects are dealt fairly, the smallest value over all looks is ever p or below with
    probability at most p, so it may be watched. It is one over the Bayes factor of a beta-binomial mixture
    around the share against the share itself (a martingale under fair dealing; Ville's inequality; Lindon and
    Malek 2022, "Anytime-valid inference for multinomial count data"):

        B(k s + a, k (1 - s) + b) / B(k s, k (1 - s)) / (s^a (1 - s)^b)

    with a and b subjects of the challenger's and the champion's arm, s the share, k `CONFIDENCE`. A test of
    fixed size would give smaller values, and cry wolf to who looks often.

    Parameters
    ----------
    challengers, champions
        Subjects with at least one list, by arm.
    share
        Of subjects that the challenger should get, between 0 and 1.

    Returns
    -------
    float
        In (0, 1]; under 0.001 the dealing or the record is broken, and no result should be believed.

    Raises
    ------
    ValueError
        If the share or a count is out of range.
    """
    if not 0.0 < share < 1.0 or min(challengers, champions) < 0:
        raise ValueError(f"{challengers} and {champions} subjects at share {share}: out of range")
    first, second = CONFIDENCE * share, CONFIDENCE * (1.0 - share)
    log_factor = (
        _log_beta(first + challengers, second + champions)
        - _log_beta(first, second)
        - challengers * math.log(share)
        - champions * math.log1p(-share)
    )
    return math.exp(-max(0.0, min(log_factor, 700.0)))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
