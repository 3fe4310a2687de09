"""Predictions on encrypted images as an HTTP service, and its clients."""
