"""Examples that language models learn from: worked solutions of a task, and files in TRL's dataset formats."""
