"""Learners that post-train language models."""
