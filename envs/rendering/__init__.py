"""Drawing with pygame; the only folder that imports it."""
