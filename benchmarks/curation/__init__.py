"""Curation measured on planted and labelled data."""
