"""The environments of tasks with verifiable answers: whole texts, or token by token."""
