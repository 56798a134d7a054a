"""Learning curves: runs grouped by their settings, averaged over seeds, drawn with intervals."""
