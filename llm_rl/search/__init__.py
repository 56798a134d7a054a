"""Search at test time: several completions of a problem, of which one is the answer."""
