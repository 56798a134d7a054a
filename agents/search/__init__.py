"""Search at decision time: agents that look ahead from the state they are in."""
