"""Language models: tiny ones, loading and saving, heads and adapters, base models of tasks."""
