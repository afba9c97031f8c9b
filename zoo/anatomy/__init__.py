"""The anatomy of a model before any weight exists: shapes, receptive fields, multiply-adds and memory."""
