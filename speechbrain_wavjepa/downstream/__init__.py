"""Evaluation of representations on labelled sound."""
