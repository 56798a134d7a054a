"""Learners with neural networks: the mathematics, the policies, and the algorithms that train them."""
