"""The report of a run. It is generated only from artifacts and the run's summary."""
