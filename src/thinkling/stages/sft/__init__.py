"""Problems with worked reasoning → a model that answers in chat form and thinks first."""
