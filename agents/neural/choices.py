"""Names that settings of the neural agents choose from."""

from typing import Literal, get_args

Activation = Literal["tanh", "relu"]
Memory = Literal["none", "gru", "lstm"]
Schedule = Literal["constant", "linear"]
Baseline = Literal["standardised", "batch-standardised", "centred", "leave-one-out"]
Normalisation = Literal["token", "sequence", "constant"]
Estimator = Literal["k1", "k2", "k3"]
HeadName = Literal["softmax", "normface", "sphereface", "cosface", "arcface"]
HEADS: tuple[HeadName, ...] = get_args(HeadName)
