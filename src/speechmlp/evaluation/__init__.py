"""Evaluation: scores with intervals over speakers, comparisons, saliency, and reports as text and page."""
