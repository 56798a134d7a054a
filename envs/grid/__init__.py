"""The grid world: scalar and vector environments, exact model, observations, compiled steps."""
