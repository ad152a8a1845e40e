"""Experiment arms: which subjects get the challenger, the same ones at every request and in every pod."""

from __future__ import annotations

import hashlib

CHAMPION_ARM = "champion"
CHALLENGER_ARM = "challenger"
NO_ARM = ""


def arm_of(use_case: str, subject_id: str, *, share: float = 0.0, salt: str = "") -> str:
    """Return the arm of a subject.

    A pure function of its arguments: SHA-256 of use case, salt and subject, as a point in [0, 1), is under
    the share or is not. Raising the share moves nobody out of the challenger's arm.

    Parameters
    ----------
    share
        Of subjects that get the challenger, 0 to 1; 0: no experiment.
    salt
        Names the experiment, so that two experiments deal the subjects independently.

    Returns
    -------
    str
        `NO_ARM` at share 0, else `CHAMPION_ARM` or `CHALLENGER_ARM`.

    Raises
    ------
    ValueError
        If the share is outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share} is not in [0, 1]")
    if share == 0.0:
        return NO_ARM
    digest = hashlib.sha256("\x1f".join((use_case, salt, subject_id)).encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    return CHALLENGER_ARM if point < share else CHAMPION_ARM
