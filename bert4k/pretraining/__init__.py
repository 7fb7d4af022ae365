"""Pretraining on plain text: reading it, choosing a vocabulary, and tokenising once into shards that are mapped into memory."""
