"""Shows what a run made; reads artifacts only."""
