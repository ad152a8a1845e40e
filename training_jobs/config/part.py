"""What every section of the configuration shares: bounds, and that settings neither change nor go unknown."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]


class Part(BaseModel):
    """A section: frozen, and refusing settings it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
