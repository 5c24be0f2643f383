"""Problems with worked traces → a model that answers in chat form and thinks first."""
