"""The project's own experiments: training runs that differ in one thing, paired by seed, with intervals."""
