"""Stable-Baselines3: its algorithms as agents, our environments as its vectors."""
