"""Maps: their text format, named ones, generators, validation, tiles."""
