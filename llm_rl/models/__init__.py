"""Language models: tiny ones, loading and saving, heads, adapters, and how conversations become tokens."""
