"""Problems that can be checked: puzzle families and their tools."""
