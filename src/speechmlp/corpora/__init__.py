"""Corpora: one module per corpus, from the published files to a manifest."""
