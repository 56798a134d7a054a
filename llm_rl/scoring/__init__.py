"""Log-probabilities of given tokens with gradients, without padding and without logits."""
