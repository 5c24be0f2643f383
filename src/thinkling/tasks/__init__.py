"""Problems whose answers can be verified."""
