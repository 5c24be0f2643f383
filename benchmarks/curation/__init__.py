"""Curation against planted and labelled data."""
