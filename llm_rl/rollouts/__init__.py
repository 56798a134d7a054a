"""Conversations of a language model with a task: collected, batched, measured."""
