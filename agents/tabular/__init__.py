"""Agents whose knowledge is a table."""
