"""Bottlenecks: a stage that transforms the output to another width."""
