"""The ranker's network: what it adds to the teacher's logit, in torch and as ONNX."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from matchloop.rerank.scorer import ONNX_INPUT, ONNX_OUTPUT
from training_jobs.recipes.onnx_graph import feed_forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from training_jobs.config import RankerConfig

TEACHER = ("model_score", "original_score")
"""What the teacher says, which reaches the score by its logit, whether the network looks at it or not.

A calibration is fitted across lists. Within one the same scores may say nothing, and a network that looks can
take its say back. What it learns is how far the retrieval of the past could be trusted, though, and it takes
as much from the retrieval of its own release, which has since learned from the very lists it is trained on.
"""

OUTSIDE = 0.01
"""Share of the training values at either end that count as the nearest value within."""


class RankerNetwork(nn.Module):
    """features → 32 → ReLU → dropout → 16 → ReLU → 1, on features scaled to mean 0 and deviation 1.

    The last layer starts at zero, so that the untrained network leaves the teacher's order as it is. A
    feature is cut to the range that training saw: half the candidates of a request were never shown, and
    beyond what was shown a network would go on in a straight line.

    Parameters
    ----------
    features
        (n, F), of the training examples.
    names
        F names. Those of `TEACHER` are not looked at unless `config.teacher_seen`.
    """

    def __init__(self, features: NDArray[np.float32], names: Sequence[str], config: RankerConfig) -> None:
        super().__init__()
        low, high = np.quantile(features, [OUTSIDE, 1.0 - OUTSIDE], axis=0).astype(np.float32)
        within = np.clip(features, low, high)
        deviation = within.std(axis=0)
        self.low, self.high = nn.Buffer(torch.from_numpy(low)), nn.Buffer(torch.from_numpy(high))
        self.mean = nn.Buffer(torch.from_numpy(within.mean(axis=0)))
        self.deviation = nn.Buffer(torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0)))
        seen = [config.teacher_seen or name not in TEACHER for name in names]
        self.seen = nn.Buffer(torch.tensor(seen, dtype=torch.float32))
        widths = [features.shape[1], *config.hidden, 1]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise(widths))
        self.dropout = config.dropout
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def scaled(self, features: Tensor) -> Tensor:
        """Return features cut and scaled, same shape."""
        return (torch.clamp(features, self.low, self.high) - self.mean) / self.deviation * self.seen

    def forward(self, scaled: Tensor) -> Tensor:
        """Return the adjustment in logits of rows of `scaled`: (n, F) to (n,)."""
        rows = scaled
        for number, layer in enumerate(self.layers[:-1]):
            rows = torch.relu(layer(rows))
            if number == 0:
                rows = nn.functional.dropout(rows, self.dropout, self.training)
        return self.layers[-1](rows)[:, 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def adjust(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the adjustment without dropout."""
        self.eval()
        rows = self.scaled(torch.from_numpy(features).to(self.mean.device))
        return np.asarray(self(rows).cpu().numpy(), dtype=np.float32)

    def to_onnx(self) -> bytes:
        """Return the network as an ONNX file; the scaling is folded into the first layer."""
        layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in self.layers]  # type: ignore[operator]
        mean, deviation = self.mean.numpy(), self.deviation.numpy()
        first = layers[0][0] * self.seen.numpy() / deviation
        layers[0] = (first, layers[0][1] - first @ mean)
        within = (self.low.numpy(), self.high.numpy())
        return feed_forward(layers, input_name=ONNX_INPUT, output_name=ONNX_OUTPUT, within=within)
