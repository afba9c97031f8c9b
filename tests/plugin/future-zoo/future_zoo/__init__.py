"""Nothing that this version of the contract could use."""

raise ImportError("future_zoo must not be imported by an older zoo")
