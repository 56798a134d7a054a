"""Networks of numeric environments: encoders, torsos, distributions over actions, heads."""
