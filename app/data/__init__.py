"""Packaged tables, read by app.core.plan_store. What each is made from stands in README.md."""
