"""One thread: with two, small networks run many times slower on a busy machine, and numbers may differ."""

import torch

torch.set_num_threads(1)
