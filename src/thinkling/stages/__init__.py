"""The stages of a recipe. Stages exchange data only through artifacts."""
