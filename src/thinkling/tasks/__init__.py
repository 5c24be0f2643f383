"""Problems that can be checked, and the tools that they may call."""
