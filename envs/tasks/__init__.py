"""Tasks with verifiable answers, and the total verifier they share. Light: NumPy and the standard library."""
