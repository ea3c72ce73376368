"""Workflows and activities that the integration and end-to-end tests run."""
