"""Circles in the place of UMAP, which compiles for a quarter minute in every process."""

import numpy as np


class Circle:
    """Lays rows out on a circle, turned by the seed and the number of neighbours."""

    def __init__(self, *, random_state, n_neighbors, **_):
        self.turn = random_state + n_neighbors

    def fit_transform(self, x):
        turn = np.linspace(0, 6, len(x)) + self.turn
        return np.stack([np.cos(turn), np.sin(turn)], axis=1)
